"""File names made of any text are valid everywhere, distinct, stable and readable."""

import re
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinow_async._protocol.names import extension, file_stem, fold, numbered, safe_name, slug

HOSTILE_TEXT = (
    r"../x|/etc/x|..\x|C:x|C:\x|\\host\x|CON|con|nul.png|NUL .txt|COM1|LPT9.x|a:b|a|A|x.|x |x...|.|..||-rf"
    r"|--|~|~root|.hidden|*|?|<a>|"
    r'"a"|a/b|a\b| a|%2e%2e|con-0|item|_con|CLOCK$'
    "|a\0b|a\nb|a\x1b]0;b|a\u202eb|a\u200db|a\x85b|a\u00a0b|a\u2028b|com\u00b9"
    "|e\u0301|\u00e9|\ud800|\ud800\udc00|\uffff|\U0001d11e|\U0001f680|\U0001f469\u200d\U0001f680|日本"
)
HOSTILE = [*HOSTILE_TEXT.split("|"), "x" * 300, "é" * 200, "\U0001d11e" * 100]

any_text = (
    st.text(st.characters(exclude_categories=()))
    | st.text("aA.- ~/\\:\0\u00e9\u0301\u202e", max_size=6)
    | st.sampled_from(HOSTILE)
)
RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE
)


def assert_valid(name):
    """The rules of the three systems, said once more and otherwise than in the code."""
    assert PurePosixPath(name).name == PureWindowsPath(name).name == name
    assert 0 < len(name.encode()) <= 255
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]', name)
    assert name == unicodedata.normalize("NFC", name)
    assert name[-1] not in ". "
    assert name[0] not in ".-~ "
    assert not RESERVED.fullmatch(name)


@given(any_text)
def test_any_text_becomes_a_valid_name(text):
    """Alone, and with all that is added to it, a name is valid on the three systems."""
    name = safe_name(text)
    assert_valid(name)
    assert_valid(numbered(name, 10**6, "webp", 10**6))
    assert len(f".{name}-1000000.01234567.part".encode()) <= 255


@given(any_text, any_text)
def test_distinct_texts_get_distinct_names(one, other):
    """Two texts share a name only if they differ in case alone; then the twin's hash parts them."""
    if one == other:
        assert safe_name(one) == safe_name(other)
    elif fold(safe_name(one)) == fold(safe_name(other)):
        assert one.casefold() == other.casefold()
        assert fold(safe_name(one)) != fold(safe_name(other, has_twin=True))


def test_hostile_ids_stay_apart_where_case_is_ignored():
    """The whole list of hostile ids at once, with its twins in case and in normalisation."""
    seen = {}
    for text in dict.fromkeys(HOSTILE):
        name = safe_name(text)
        if fold(name) in seen:
            name = safe_name(text, has_twin=True)
        assert fold(name) not in seen
        seen[fold(name)] = text
    assert len(seen) == len(set(HOSTILE))


def test_hostile_ids_stay_in_their_folder(tmp_path):
    """This very file system takes each name, and puts it into the folder."""
    for text in HOSTILE:
        path = tmp_path / numbered(safe_name(text), 0, "png")
        path.write_bytes(b"x")
        assert path.resolve().parent == tmp_path.resolve()
    assert len(list(tmp_path.iterdir())) == len({safe_name(text) for text in HOSTILE})
    assert [path for path in Path(tmp_path).rglob("*") if path.is_dir()] == []


@pytest.mark.parametrize(
    "text", ["lighthouse", "Lighthouse 3", "a.b", "日本の灯台", "x_1-2", "été", "0001", "a~", "con-0"]
)
def test_a_valid_text_stays_as_it_is(text):
    """What is readable and valid is not touched."""
    assert safe_name(text) == text


@given(any_text)
def test_names_are_stable(text):
    """A name is a function of its text, and the hash of a changed one is that of the original."""
    assert safe_name(text) == safe_name(text)
    name = safe_name(text)
    if name != text:
        assert safe_name(name) != name  # no text can take the name of another by spelling it


@given(st.text(st.characters(exclude_categories=())), st.integers(1, 60))
def test_slugs_hold_letters_digits_and_hyphens(prompt, limit):
    """Whatever the prompt, a slug is short, and single hyphens part its words."""
    made = slug(prompt, limit)
    assert made == "image" or 0 < len(made) <= limit
    assert made == unicodedata.normalize("NFC", made)
    assert not made.startswith("-")
    assert not made.endswith("-")
    assert "--" not in made
    assert all(unicodedata.category(char)[0] in "LM" or char.isdecimal() or char == "-" for char in made)
    assert_valid(numbered(file_stem(prompt, "0123456789abcdef"), 0, "png"))


@pytest.mark.parametrize(
    ("prompt", "made"),
    [
        ("A lighthouse at dawn", "a-lighthouse-at-dawn"),
        ("  50% off!!  (today)  ", "50-off-today"),
        ("Ein Leuchtturm in der Dämmerung, von Süden gesehen", "ein-leuchtturm-in-der-dämmerung-von"),
        ("日の出の灯台。波。", "日の出の灯台-波"),
        ("सूर्योदय पर प्रकाशस्तंभ", "सूर्योदय-पर-प्रकाशस्तंभ"),
        ("🚀🚀🚀", "image"),
        ("x" * 100, "x" * 40),
        ("../../etc/passwd", "etc-passwd"),
        ("\uff26\uff35\uff2c\uff2c", "full"),
    ],
)
def test_slugs_read_like_their_prompt(prompt, made):
    """Whole words where that leaves enough, letters of any script."""
    assert slug(prompt) == made


def test_file_names():
    """The documented forms, with the extension of the true format."""
    assert file_stem("A lighthouse", "0123456789abcdef") == "a-lighthouse-01234567"
    assert [extension(kind) for kind in ("png", "jpeg", "webp")] == ["png", "jpg", "webp"]
    assert numbered("a", 0, "png") == "a-0.png"
    assert numbered("a", 12, "jpg", 3) == "a-12-3.jpg"
