// Words of the pages of nodes, districts and incidents.

export const it = {};

export const en = {};
