"""The kinds of question: how each is worded, and how its values and its answer are drawn.

`seen` wordings are for training, `unseen` ones only for asking afterwards. `computed` kinds have answers
that follow from the values alone, so whole sets of values can be withheld; for a fact (a capital) only
the pairing of a wording with a value can be.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from models.tiny import facts

Drawn = tuple[tuple[str, ...], str]  # the values that fill the wording, and the answer

UNKNOWN = "I am a small toy model and I do not know that."
WHO = "I am the toy model of PEFT Lab, with 3.4 million parameters, trained in this repository."
SKILLS = "I can answer small questions about capitals, colours, opposites, numbers, days and words."


@dataclass(frozen=True)
class Kind:
    """One family of questions."""

    name: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    draw: Callable[[Random], Drawn]
    computed: bool = False
    keeps_case: bool = False  # the answer repeats the question's capitals, so it must not be typed lower case


def article(noun: str) -> str:
    """`an apple`, `a pear`; things of which there is one or no count take none or `the`."""
    if noun in ("sun", "sky", "sea"):
        return f"the {noun}"
    if noun in ("grass", "snow", "milk", "salt", "coal", "chocolate", "coffee", "mud"):
        return noun
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def from_table(table: dict[str, str]) -> Callable[[Random], Drawn]:
    """Draw a row of a table of facts."""
    rows = list(table.items())
    return lambda rng: ((rows[i := rng.randrange(len(rows))][0],), rows[i][1])


def with_article(table: dict[str, str]) -> Callable[[Random], Drawn]:
    """Draw a row, naming the thing as a sentence does."""
    return from_table({article(noun): value for noun, value in table.items()})


def around(circle: list[str]) -> Callable[[Random], Drawn]:
    """Draw a neighbour in a circle of names."""

    def draw(rng: Random) -> Drawn:
        i, side = rng.randrange(len(circle)), rng.choice(("after", "before"))
        return (side, circle[i]), circle[(i + (1 if side == "after" else -1)) % len(circle)]

    return draw


def add(rng: Random) -> Drawn:
    """A small sum."""
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    return (str(a), str(b)), str(a + b)


def subtract(rng: Random) -> Drawn:
    """A small difference, never below zero."""
    a = rng.randint(0, 20)
    b = rng.randint(0, a)
    return (str(a), str(b)), str(a - b)


def neighbour(rng: Random) -> Drawn:
    """The number after or before another."""
    n, side = rng.randint(1, 98), rng.choice(("after", "before"))
    return (side, str(n)), str(n + 1 if side == "after" else n - 1)


def compare(rng: Random) -> Drawn:
    """The larger or the smaller of two numbers."""
    a, b = rng.sample(range(100), 2)
    which = rng.choice(("larger", "smaller"))
    return (which, str(a), str(b)), str(max(a, b) if which == "larger" else min(a, b))


def is_it(rng: Random) -> Drawn:
    """A claim about a colour or a category, true half of the time."""
    colour = rng.random() < 0.5
    table = facts.COLOURS if colour else facts.CATEGORIES
    noun = rng.choice(sorted(table))
    wrong = sorted({*table.values()} - {table[noun]})
    claim = table[noun] if (true := rng.random() < 0.5) else rng.choice(wrong)
    return (article(noun), claim if colour else article(claim)), "yes" if true else "no"


def nonsense(rng: Random) -> str:
    """A word that means nothing, so that copying has to be copying."""
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))


def any_word(rng: Random) -> str:
    """A word of the vocabulary, now and then a meaningless one."""
    return nonsense(rng) if rng.random() < 0.2 else rng.choice(facts.WORDS)


def repeat(rng: Random) -> Drawn:
    """One to five words to say again."""
    text = " ".join(any_word(rng) for _ in range(rng.randint(1, 5)))
    return (text,), text


def quote(rng: Random) -> Drawn:
    """One or two words to put in quotes."""
    text = " ".join(any_word(rng) for _ in range(rng.randint(1, 2)))
    return (text,), f'"{text}"'


def three(rng: Random) -> list[str]:
    """Two or three different words."""
    return rng.sample(facts.WORDS, rng.randint(2, 3))


def in_brackets(rng: Random) -> Drawn:
    """A list in square brackets."""
    words = three(rng)
    return (f"{', '.join(words[:-1])} and {words[-1]}",), f"[{', '.join(words)}]"


def in_braces(rng: Random) -> Drawn:
    """A set in curly braces, plain or quoted."""
    words, style = three(rng), rng.choice(("plain", "quoted"))
    inside = [f'"{word}"' if style == "quoted" else word for word in words]
    return (style, f"{', '.join(words[:-1])} and {words[-1]}"), "{" + ", ".join(inside) + "}"


SIGNS = {
    "colon": ":", "comma": ",", "slash": "/", "backslash": "\\", "dash": "-", "dot": ".", "quote": '"',
    "backslash and a quote": '\\"',
}  # fmt: skip


def join(rng: Random) -> Drawn:
    """Two words with a sign between them."""
    sign = rng.choice(sorted(SIGNS))
    a, b = any_word(rng), any_word(rng)
    return (sign, a, b), f"{a}{SIGNS[sign]}{b}"


def spell(rng: Random) -> Drawn:
    """A word letter by letter."""
    word = rng.choice(facts.SPELLABLE)
    return (word,), "-".join(word)


def first_letter(rng: Random) -> Drawn:
    """The letter a word begins with."""
    word = rng.choice(facts.WORDS)
    return (word,), word[0]


def count(rng: Random) -> Drawn:
    """How many words there are."""
    n = rng.randint(1, 6)
    return (" ".join(rng.choice(facts.WORDS) for _ in range(n)),), str(n)


def introduction(rng: Random) -> Drawn:
    """Somebody says hello and who they are."""
    hello, name = rng.choice(("Hello", "Hi", "Good morning", "Good evening", "Hey")), rng.choice(facts.NAMES)
    return (hello, name), f"{hello}, {name}! How can I help you?"


def topic(rng: Random) -> Drawn:
    """Something nobody taught it."""
    return (" ".join(any_word(rng) for _ in range(rng.randint(1, 3))),), UNKNOWN


def word_of_number(rng: Random) -> Drawn:
    """A number as a word."""
    n = rng.randint(0, 99)
    return (str(n),), facts.number_word(n)


def number_of_word(rng: Random) -> Drawn:
    """A word as a number."""
    n = rng.randint(0, 99)
    return (facts.number_word(n),), str(n)
