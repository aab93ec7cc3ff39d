"""The words of headings in Italian, English, German, French and Spanish."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

# Whole words, without accents and in small letters; what stands for several words is found first.
MEASUREMENT_WORDS = {
    "flow_rate": """portata portate portatamedia flow flowrate flow_rate discharge durchfluss durchflussrate durchflusse
        abfluss zufluss debit debits caudal caudales gasto inflow outflow demand durchflussmenge volumenstrom fit
        ft fi fqi qist""",
    "pressure": """pressione pressioni pressure press druck wasserdruck netzdruck pression pressions presion presiones
        pt
        pit pi prevalenza head carico""",
    "temperature": """temperatura temperature temperatures temperatur wassertemperatur temp tt tit te""",
    "volume": """volume volumi volumes volumen contatore totalizzatore totalizzato zahlerstand totalizer totaliser
        totaliseur compteur contador totalizador vol lettura consumo verbrauch consumption consommation""",
    "level": """livello livelli level levels pegel fullstand wasserstand niveau niveaux nivel lt lit li""",
}  # fmt: skip
LETTERS = {
    "f": """flow_rate""",
    "q": """flow_rate""",
    "p": """pressure""",
    "l": """level""",
    "h": """level""",
    "t": """temperature""",
    "v": """volume""",
}
STATUS = """stato status state zustand etat estado marcia run running onoff on off acceso spento allarme alarm alarme
    alarma comando"""
FLAGS = """flag flags label etichetta att_flag quality qualita qualitat qualite calidad validita validity validity_flag
    bandiera note nota notes"""
COUNTERS = """contatore totalizzatore totalizzato zahlerstand totalizer totaliser totaliseur compteur contador
    totalizador lettura"""
SUMMED = """totalizzata cumulata cumulato cumulativa cumulativo totalized totalised cumulative cumulated kumuliert
    kumulierte kumulierter cumule cumulee acumulado acumulada totalizada"""
TARGETS = "setpoint setpoints sollwert consigne consigna soglia threshold schwellwert seuil umbral target obiettivo"
DIFFERENCES = "delta differenza differenz differenzdruck difference differential diferencia scarto"
EXTREMES = """min max minimo massimo minima massima minimum maximum minimale maximale minimal maximal mini maxi"""
FILLERS = """di del della dei delle da in of the de la le les du des der die das von il lo a al alla medio media mean
        avg
    average moyenne moyen mittelwert mittel promedio istantanea istantaneo actual aktuell pv value valore wert
    valeur valor measured misurata totale total gesamt misurato el los las lt d e et und and y nel nella rate"""
ROLES = {
    "node": """node node_id nodeid nodo nodi punto punti point sensor sensore station stazione messstelle messpunkt
        zahler capteur site sito tag logger device dispositivo estacion noeud knoten asset meter meter_id
        sensor_id id codice code matricola impianto location ubicazione standort lieu ubicacion serial seriale
        name nome nom nombre punto_misura messort station_id""",
    "district": """district district_id distretto distretti dma zone zona bezirk secteur sector versorgungszone""",
    "parameter": """grandezza parametro parameter measurement variabile variable messgrosse grandeur magnitud tipo type
        canale channel kanal canal misura mesure medida quantity metric""",
    "value": """valore value wert valeur valor reading messwert val misura lettura""",
    "unit": """unit unita um u_m einheit unite unidad uom units""",
    "instant": """timestamp datetime date time data date_time datum fecha dataora data_ora zeit zeitpunkt zeitstempel
        horodatage instante ora ore hour uhrzeit heure hora giorno day jour dia momento instant quando utc tempo
        stunde""",
}  # fmt: skip
TIME_WORDS = frozenset("ora ore time uhrzeit heure hora zeit hour orario stunde heures".split())
ZONE_WORDS = frozenset(
    "fuso orario orari timezone timezones zeitzone fuseau huso zeiten uhrzeiten times horaires horas tz".split()
)
ZONE_PAIRS = ("time zone", "zona oraria", "zona horaria", "zone horaire")
RECEIVED = frozenset(
    "ingestion received arrivo ricezione ricevuto created inserted updated import empfangen recu eingang".split()
)

_SPLIT = re.compile(r"[^\w]+|_+|(?<=[a-zà-ÿ])(?=[A-Z])")


@cache
def known(words: str) -> frozenset[str]:
    """Words as a set."""
    return frozenset(words.split())


def plain(text: str) -> str:
    """Small letters without accents."""
    folded = text.replace("ß", "ss").replace("ẞ", "ss").casefold()
    return "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))


def words_of(text: str) -> list[str]:
    """The words of a text, as they stand there."""
    return [word for word in _SPLIT.split(text) if word]


def speaks_of_zone(text: str) -> bool:
    """Whether a line is about the zone of times."""
    words = [plain(word) for word in words_of(text)]
    spoken = " ".join(words)
    return any(word in ZONE_WORDS for word in words) or any(pair in spoken for pair in ZONE_PAIRS)


def has_role(text: str, role: str) -> bool:
    """Whether a heading is a word (or two or three) for this role, and nothing else."""
    words = [plain(word) for word in words_of(text)]
    if not words or len(words) > 4:
        return False
    vocabulary = known(ROLES[role])
    if plain(text).strip() in vocabulary or "_".join(words) in vocabulary or "".join(words) in vocabulary:
        return True
    return words[0] in vocabulary and all(
        w in vocabulary
        or w in known(FILLERS)
        or w
        in (
            "id",
            "nome",
            "name",
            "misura",
            "mesure",
            "medida",
            "local",
            "locale",
            "lokal",
            "lokale",
            "utc",
            "cet",
            "ora",
            "cod",
        )
        for w in words
    )
