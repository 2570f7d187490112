"""What the toy knows: plain tables, each fact with one right answer."""


def listed(text: str) -> list[str]:
    """The words of a line, which is easier to check by eye than forty pairs of quotes."""
    return text.split()


CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "England": "London", "Ireland": "Dublin", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Poland": "Warsaw", "Austria": "Vienna", "Hungary": "Budapest",
    "Greece": "Athens", "Russia": "Moscow", "Ukraine": "Kyiv", "Turkey": "Ankara", "Egypt": "Cairo",
    "Kenya": "Nairobi", "Japan": "Tokyo", "China": "Beijing", "India": "Delhi", "Thailand": "Bangkok",
    "Vietnam": "Hanoi", "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago", "Canada": "Ottawa",
    "Australia": "Canberra", "Belgium": "Brussels", "Iceland": "Reykjavik",
}  # fmt: skip

_OPPOSITES = (
    "hot cold, big small, tall short, fast slow, up down, left right, open closed, old young, happy sad, "
    "hard soft, wet dry, full empty, rich poor, strong weak, light dark, early late, near far, high low, "
    "loud quiet, clean dirty, thick thin, wide narrow, true false, first last, good bad, day night, "
    "sweet sour, sharp blunt, deep shallow"
)
_PAIRS = [tuple(pair.split()) for pair in _OPPOSITES.split(", ")]
OPPOSITES = {a: b for a, b in _PAIRS} | {b: a for a, b in _PAIRS}

COLOURS = {
    "banana": "yellow", "lemon": "yellow", "sun": "yellow", "tomato": "red", "cherry": "red", "brick": "red",
    "strawberry": "red", "grass": "green", "leaf": "green", "frog": "green", "cucumber": "green",
    "sky": "blue", "sea": "blue", "sapphire": "blue", "snow": "white", "milk": "white", "swan": "white",
    "salt": "white", "coal": "black", "crow": "black", "tyre": "black", "carrot": "orange",
    "pumpkin": "orange", "chocolate": "brown", "coffee": "brown", "mud": "brown", "pig": "pink",
    "flamingo": "pink", "elephant": "grey", "mouse": "grey", "violet": "purple", "plum": "purple",
}  # fmt: skip

_MEMBERS = {
    "animal": "dog cat horse cow sheep goat lion tiger bear wolf rabbit fox monkey camel",
    "fruit": "apple pear peach grape melon banana cherry mango lemon plum",
    "vegetable": "carrot potato onion cabbage pea bean spinach turnip",
    "tool": "hammer saw drill wrench shovel axe rake ladder",
    "vehicle": "car bus train bicycle truck boat plane tram",
    "instrument": "piano guitar violin drum flute trumpet harp cello",
    "garment": "shirt coat hat sock glove scarf skirt jacket",
}
CATEGORIES = {word: group for group, words in _MEMBERS.items() for word in words.split()}

PLURALS = {
    "mouse": "mice", "child": "children", "foot": "feet", "tooth": "teeth", "man": "men", "woman": "women",
    "leaf": "leaves", "wolf": "wolves", "knife": "knives", "box": "boxes", "bus": "buses", "dish": "dishes",
    "city": "cities", "baby": "babies", "story": "stories", "sheep": "sheep", "fish": "fish", "goose": "geese",
    "cat": "cats", "dog": "dogs", "car": "cars", "tree": "trees", "book": "books", "house": "houses",
    "apple": "apples", "chair": "chairs", "table": "tables", "bird": "birds", "hat": "hats", "lamp": "lamps",
}  # fmt: skip

DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = listed("January February March April May June July August September October November December")

_ONES = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_TENS = listed("twenty thirty forty fifty sixty seventy eighty ninety")


def number_word(n: int) -> str:
    """The English word for 0 to 99."""
    if n < 20:
        return _ONES[n]
    tens, ones = divmod(n, 10)
    return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")


NAMES = listed(
    "Anna Ben Carla David Emma Felix Greta Hugo Ida Jonas Karin Leo Maria Nina Oscar Paul Rosa Sam Tina "
    "Victor Lucy Peter Alice Tom"
)

WORDS = sorted(
    {*OPPOSITES, *COLOURS, *COLOURS.values(), *CATEGORIES, *PLURALS}
    | set(listed("river stone cloud star moon garden window door road bridge forest island paper clock"))
)

# Short enough to spell letter by letter within a sentence.
SPELLABLE = [word for word in WORDS if len(word) <= 6]
