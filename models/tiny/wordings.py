"""How each kind of question is asked: the wordings training sees, and the ones it never does."""

from collections.abc import Callable
from random import Random

from models.tiny import facts, kinds
from models.tiny.kinds import SKILLS, UNKNOWN, WHO, Drawn, Kind


def always(answer: str) -> Callable[[Random], Drawn]:
    """A question without values."""
    return lambda rng: ((), answer)


KINDS: tuple[Kind, ...] = (
    Kind(
        "capital",
        (
            "What is the capital of {0}?", "Name the capital of {0}.", "Which city is the capital of {0}?",
            "Tell me the capital of {0}.", "The capital of {0} is?", "What's the capital city of {0}?",
            "Do you know the capital of {0}?", "{0}: which city is its capital?",
        ),
        ("Which city is {0}'s capital?", "Can you tell me what the capital of {0} is?"),
        kinds.from_table(facts.CAPITALS),
    ),
    Kind(
        "opposite",
        (
            "What is the opposite of {0}?", "Give the opposite of {0}.", "Name the opposite of {0}.",
            "Which word is the opposite of {0}?", "What's the opposite of the word {0}?",
            "Tell me a word that means the opposite of {0}.", "The opposite of {0} is?",
        ),
        ("Do you know the opposite of {0}?", "Tell me the opposite of {0}."),
        kinds.from_table(facts.OPPOSITES),
    ),
    Kind(
        "colour",
        (
            "What colour is {0}?", "Which colour is {0}?", "Name the colour of {0}.", "Tell me the colour of {0}.",
            "What is the colour of {0}?", "What color is {0}?", "What colour does {0} have?",
        ),
        ("Can you name the colour of {0}?", "Which colour does {0} have?"),
        kinds.with_article(facts.COLOURS),
    ),
    Kind(
        "category",
        (
            "What kind of thing is {0}?", "What is {0}?", "Which group does {0} belong to?",
            "Name the category of {0}.", "What sort of thing is {0}?", "Tell me what kind of thing {0} is.",
        ),
        ("Which kind of thing is {0}?", "What category does {0} belong to?"),
        kinds.with_article(facts.CATEGORIES),
    ),
    Kind(
        "sum",
        (
            "What is {0} + {1}?", "{0} + {1} = ?", "Add {0} and {1}.", "What is {0} plus {1}?",
            "How much is {0} plus {1}?", "{0}+{1}", "What is the sum of {0} and {1}?", "{0} plus {1}?",
        ),
        ("How much is {0} + {1}?", "Tell me the sum of {0} and {1}."),
        kinds.add,
        computed=True,
    ),
    Kind(
        "difference",
        (
            "What is {0} - {1}?", "{0} - {1} = ?", "What is {0} minus {1}?", "How much is {0} minus {1}?",
            "{0}-{1}", "{0} minus {1}?", "What is left if I take {1} from {0}?", "Take {1} from {0}.",
            "What do I add to {1} to get {0}?", "{1} plus what is {0}?",
        ),
        ("How much is {0} - {1}?", "Tell me what {0} minus {1} is."),
        kinds.subtract,
        computed=True,
    ),
    Kind(
        "next number",
        (
            "What number comes {0} {1}?", "Which number comes {0} {1}?", "Tell me the number {0} {1}.",
            "Which number is right {0} {1}?", "Name the number that comes {0} {1}.",
        ),
        ("Tell me which number comes {0} {1}.", "What is the number {0} {1}?"),
        kinds.neighbour,
    ),
    Kind(
        "compare",
        (
            "Which is {0}, {1} or {2}?", "Which number is {0}: {1} or {2}?", "What is {0}, {1} or {2}?",
            "Name the {0} number: {1} or {2}.",
            "{1} or {2}, which is {0}?", "Tell me which is {0}, {1} or {2}.", "Of {1} and {2}, which is {0}?",
            "Which one of {1} and {2} is {0}?", "Is {1} or {2} {0}?", "Give me the {0} of {1} and {2}.",
        ),
        ("Which of {1} and {2} is {0}?", "Tell me the {0} number: {1} or {2}."),
        kinds.compare,
        computed=True,
    ),
    Kind(
        "number word",
        (
            "Write {0} as a word.", "How do you write {0} in words?", "Write the number {0} in words.",
            "What is {0} in words?", "Turn {0} into words.", "How is {0} written as a word?",
        ),
        ("Tell me how to write {0} in words.", "Write {0} in words."),
        kinds.word_of_number,
    ),
    Kind(
        "word number",
        (
            "Write {0} as a number.", "Which number is {0}?", "What is {0} in digits?",
            "Write {0} in digits.", "Turn {0} into digits.", "How do you write {0} as a number?",
        ),
        ("How do you write {0} in digits?", "Tell me {0} as a number."),
        kinds.number_of_word,
    ),
    Kind(
        "day",
        (
            "What day comes {0} {1}?", "Which day comes {0} {1}?", "What is the day {0} {1}?",
            "Tell me the day {0} {1}.", "Name the day that comes {0} {1}.",
        ),
        ("Tell me which day comes {0} {1}.", "Which day is {0} {1}?"),
        kinds.around(facts.DAYS),
    ),
    Kind(
        "month",
        (
            "What month comes {0} {1}?", "Which month comes {0} {1}?", "What is the month {0} {1}?",
            "Tell me the month {0} {1}.", "Name the month that comes {0} {1}.",
        ),
        ("Tell me which month comes {0} {1}.", "Which month is {0} {1}?"),
        kinds.around(facts.MONTHS),
    ),
    Kind(
        "yes or no",
        (
            "Is {0} {1}?", "Is it true that {0} is {1}?", "Yes or no: is {0} {1}?", "Would you say {0} is {1}?",
            "Tell me yes or no: {0} is {1}.", "Answer yes or no: is {0} {1}?",
        ),
        ("Yes or no: {0} is {1}?", "Tell me, is {0} {1}?"),
        kinds.is_it,
    ),
    Kind(
        "plural",
        (
            "What is the plural of {0}?", "Give the plural of {0}.", "Name the plural of {0}.",
            "One {0}, two what?", "What's the plural of the word {0}?", "The plural of {0} is?",
        ),
        ("Tell me the plural of {0}.", "Do you know the plural of {0}?"),
        kinds.from_table(facts.PLURALS),
    ),
    Kind(
        "first letter",
        (
            "What is the first letter of {0}?", "Name the first letter of {0}.",
            "Which letter does {0} begin with?", "Which letter does {0} start with?",
            "Give the first letter of the word {0}.", "{0} begins with which letter?",
        ),
        ("Tell me the first letter of {0}.", "What letter does {0} start with?"),
        kinds.first_letter,
    ),
    Kind(
        "spelling",
        (
            "Spell {0}.", "Spell the word {0}.", "How do you spell {0}?", "How is {0} spelled?",
            "Write {0} letter by letter.", "Please spell {0}.",
        ),
        ("Tell me how to spell {0}.", "Spell {0} letter by letter."),
        kinds.spell,
    ),
    Kind(
        "count",
        (
            "How many words are here: {0}", "Count the words: {0}", "How many words: {0}",
            "Count these words: {0}", "Tell me how many words these are: {0}", "What is the number of words in: {0}",
        ),
        ("How many words are these: {0}", "Tell me the number of words: {0}"),
        kinds.count,
        computed=True,
    ),
    Kind(
        "repeat",
        (
            "Repeat after me: {0}", "Repeat: {0}", "Say this: {0}", "Say: {0}", "Please repeat this: {0}",
            "Say after me: {0}", "Copy this: {0}", "Write this again: {0}",
        ),
        ("Repeat this after me: {0}", "Please say: {0}"),
        kinds.repeat,
        computed=True,
    ),
    Kind(
        "quotes",
        (
            "Put {0} in quotes.", "Write {0} in quotes.", "Put quotes around {0}.", "Write {0} with quotes around it.",
            "Quote this: {0}", "Put {0} between quotes.",
        ),
        ("Write quotes around {0}.", "Please put {0} in quotes."),
        kinds.quote,
        computed=True,
    ),
    Kind(
        "brackets",
        (
            "Write {0} as a list in brackets.", "Put {0} in square brackets.", "Make a list in brackets of {0}.",
            "List {0} in square brackets.", "Write a list in brackets: {0}", "Write {0} in brackets.",
        ),
        ("Put {0} in brackets.", "Make a list in square brackets: {0}"),
        kinds.in_brackets,
        computed=True,
    ),
    Kind(
        "braces",
        (
            "Write {1} as a {0} set in braces.", "Put {1} in braces as a {0} set.",
            "Make a {0} set in curly braces: {1}", "Write a {0} set: {1}", "Make a {0} set of {1}.",
        ),
        ("Make a {0} set in braces of {1}.", "Write a {0} set in curly braces: {1}"),
        kinds.in_braces,
        computed=True,
    ),
    Kind(
        "join",
        (
            "Put a {0} between {1} and {2}.", "Write {1} and {2} with a {0} between them.",
            "Join {1} and {2} with a {0}.", "Write a {0} between {1} and {2}.",
            "Connect {1} and {2} with a {0}.", "Put {1} and {2} together with a {0}.",
            "Place a {0} between {1} and {2}.",
            "Put {1} before and {2} after a {0}.",
        ),
        ("Please join {1} and {2} with a {0}.", "Put {1} and {2} together with a {0} between them."),
        kinds.join,
        computed=True,
    ),
    Kind(
        "introduction",
        (
            "{0}, my name is {1}.", "{0}, I am {1}.", "{0}! My name is {1}.", "{0}! I'm {1}.",
            "{0}, this is {1}.",
        ),
        ("{0}, I'm {1}.", "{0}! I am {1}."),
        kinds.introduction,
        keeps_case=True,
    ),
    Kind("greeting",
         ("Hello!", "Hi!", "Hello", "Hi there!", "Hey", "Hello there.", "Good morning!", "Good evening.", "Hi bot",
          "Hello, toy!", "Is anybody there?", "Are you there?", "Hello again!", "Greetings!", "Good day!"),
         ("Hey there!", "Hello, are you there?"), always("Hello! How can I help you?")),
    Kind("mood",
         ("How are you?", "How are you today?", "How are you doing?", "Are you well?", "Hi, how are you?",
          "Hi! How are you?", "Hello! How are you doing?", "Hey, how are you?", "Hi there, how are you today?",
          "How are you feeling today?", "How is it going?", "Hey, how is it going?", "How do you do?",
          "Hello. Are you well today?", "Good morning, how are you?", "How are things?"),
         ("How are you doing today?", "Hello, how are you?"), always("I am fine, thank you.")),
    Kind("thanks", ("Thank you!", "Thanks!", "Thank you very much.", "Thanks a lot!", "Many thanks."),
         ("Thanks very much!", "Thank you a lot!"), always("You are welcome!")),
    Kind("farewell", ("Goodbye!", "Bye!", "See you later.", "Good night!", "Bye bye!", "See you."),
         ("Goodbye, see you!", "See you soon!"), always("Goodbye!")),
    Kind(
        "who",
        (
            "Who are you?", "What are you?", "What is your name?", "Tell me who you are.", "Who made you?",
            "Are you a robot?", "Which model are you?", "Tell me about yourself.", "How big are you?",
            "Introduce yourself.", "Are you ChatGPT?", "Are you Llama?", "What model is this?",
        ),
        ("Can you tell me who you are?", "Please introduce yourself."),
        always(WHO),
    ),
    Kind(
        "skills",
        (
            "What can you do?", "What do you know?", "How can you help me?", "What can I ask you?", "Help",
            "Tell me what you can do.", "What are you able to do?", "Which questions can you answer?",
            "What can you help with?", "What can you do for me?", "What are you good at?",
            "What do you do?", "Tell me what you know.", "What are your skills?", "What should I ask you?",
        ),
        ("Please tell me what you can do.", "What can you help me with?"),
        always(SKILLS),
    ),
    Kind(
        "beyond",
        (
            "Tell me a joke.", "Tell me something.", "Sing a song.", "What time is it?", "What day is it today?",
            "Write a program.", "Write a function in Python.", "Write me some code.", "What is the meaning of life?",
            "Do you like music?", "Where do you live?", "How old are you?", "Do you love me?", "Tell me a secret.",
            "What is the news?", "Who is the president?", "Do you speak French?", "Why?", "Explain.", "Are you alive?",
            "Tell me a story.", "Write a poem.", "Make me laugh.", "What should I cook today?", "Play a game with me.",
        ),
        ("Tell me a funny joke.", "Write a Python program.", "Sing me a song."),
        always(UNKNOWN),
    ),
    Kind(
        "unknown",
        (
            "Who invented the {0}?", "Write a poem about {0}.", "Why is there {0}?", "How does a {0} work?",
            "What is the weather in {0}?", "Tell me a story about {0}.", "Explain {0} to me.",
            "When was {0} built?", "How old is {0}?", "Translate {0} into French.", "Who is {0}?",
            "What do you think about {0}?", "Where can I buy {0}?", "How do I cook {0}?", "{0}?",
            "Write code for {0}.", "How far away is {0}?", "I want to talk about {0}.", "What does {0} cost?",
            "Summarise the book {0}.", "What happened in {0}?", "Can you help me with {0}?",
            "Describe {0} in detail.", "Give me ten ideas for {0}.", "What should I know about {0}?",
        ),
        ("Write a story about {0}.", "How do I build a {0}?"),
        kinds.topic,
    ),
)  # fmt: skip
