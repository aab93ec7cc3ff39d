// Words of the pages of the network as a whole.

export const it = {};

export const en = {};
