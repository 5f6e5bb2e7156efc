"""The 35 words of Speech Commands, and the lists of its archive; of synthetic speech too."""

_WORDS = (
    "backward bed bird cat dog down eight five follow forward four go happy house learn left "
    "marvin nine no off on one right seven sheila six stop three tree two up visual wow yes zero"
)
WORDS = tuple(_WORDS.split())
VALIDATION, TEST = "validation_list.txt", "testing_list.txt"
