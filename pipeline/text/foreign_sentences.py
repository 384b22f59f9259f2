"""A few sentences of our own in several languages: canaries where a recipe keeps others."""

from __future__ import annotations

#: By ISO 639-1 code: the label of models that write language and script (GlotLID), and sentences.
SENTENCES: dict[str, tuple[str, tuple[str, ...]]] = {
    "de": (
        "deu_Latn",
        (
            "Am frühen Morgen lag noch Nebel über den Feldern, und die Straße zum Dorf war leer.",
            "Die Bibliothek schließt heute schon um sechs, weil die Heizung ausgefallen ist.",
            "Meine Großmutter hat jeden Sonntag einen Kuchen gebacken, den alle Nachbarn kannten.",
            "Wer den Zug verpasst, muss eine Stunde warten oder mit dem Fahrrad fahren.",
        ),
    ),
    "en": (
        "eng_Latn",
        (
            "Early in the morning there was still fog over the fields, and the road to the village was empty.",
            "The library closes at six today because the heating has broken down.",
            "Every Sunday my grandmother baked a cake that all the neighbours knew.",
            "Whoever misses the train has to wait for an hour or go by bicycle.",
        ),
    ),
    "es": (
        "spa_Latn",
        (
            "A primera hora de la mañana todavía había niebla sobre los campos y la carretera estaba vacía.",
            "La biblioteca cierra hoy a las seis porque se ha estropeado la calefacción.",
            "Todos los domingos mi abuela hacía un pastel que conocían todos los vecinos.",
            "Quien pierde el tren tiene que esperar una hora o ir en bicicleta.",
        ),
    ),
    "fr": (
        "fra_Latn",
        (
            "Tôt le matin, il y avait encore du brouillard sur les champs et la route du village était vide.",
            "La bibliothèque ferme aujourd'hui à six heures parce que le chauffage est en panne.",
            "Chaque dimanche, ma grand-mère préparait un gâteau que tous les voisins connaissaient.",
            "Celui qui rate le train doit attendre une heure ou prendre son vélo.",
        ),
    ),
    "it": (
        "ita_Latn",
        (
            "La mattina presto c'era ancora nebbia sui campi e la strada per il paese era vuota.",
            "La biblioteca oggi chiude alle sei perché il riscaldamento si è rotto.",
            "Ogni domenica mia nonna preparava una torta che tutti i vicini conoscevano.",
            "Chi perde il treno deve aspettare un'ora oppure andare in bicicletta.",
        ),
    ),
    "nl": (
        "nld_Latn",
        (
            "Vroeg in de ochtend hing er nog mist boven de velden en was de weg naar het dorp leeg.",
            "De bibliotheek sluit vandaag al om zes uur omdat de verwarming kapot is.",
            "Elke zondag bakte mijn grootmoeder een taart die alle buren kenden.",
            "Wie de trein mist, moet een uur wachten of met de fiets gaan.",
        ),
    ),
    "pl": (
        "pol_Latn",
        (
            "Wcześnie rano nad polami wisiała jeszcze mgła, a droga do wsi była pusta.",
            "Biblioteka zamyka się dziś o szóstej, ponieważ zepsuło się ogrzewanie.",
            "W każdą niedzielę moja babcia piekła ciasto, które znali wszyscy sąsiedzi.",
            "Kto spóźni się na pociąg, musi czekać godzinę albo jechać rowerem.",
        ),
    ),
    "ru": (
        "rus_Cyrl",
        (
            "Рано утром над полями ещё стоял туман, и дорога в деревню была пуста.",
            "Библиотека сегодня закрывается в шесть, потому что сломалось отопление.",
            "Каждое воскресенье моя бабушка пекла пирог, который знали все соседи.",
            "Кто опоздает на поезд, должен ждать час или ехать на велосипеде.",
        ),
    ),
    "tr": (
        "tur_Latn",
        (
            "Sabahın erken saatlerinde tarlaların üzerinde hâlâ sis vardı ve köye giden yol boştu.",
            "Isıtma bozulduğu için kütüphane bugün saat altıda kapanıyor.",
            "Büyükannem her pazar bütün komşuların bildiği bir pasta yapardı.",
            "Treni kaçıran ya bir saat beklemeli ya da bisikletle gitmelidir.",
        ),
    ),
    "zh": (
        "cmn_Hani",
        (
            "清晨田野上还有雾，通往村子的路上空无一人。",
            "因为暖气坏了，图书馆今天六点就关门。",
            "每个星期天我的祖母都会烤一个所有邻居都知道的蛋糕。",
            "错过火车的人要么等一个小时，要么骑自行车去。",
        ),
    ),
}
