"""Tags of AWS resources: where a job comes from, in the characters that AWS allows."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from mlretrain_provider.backends.sagemaker_options import wrong

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html
_MOST_TAGS = 50
_LONGEST_NAME, _LONGEST_VALUE = 128, 256


def tags_of(labels: Mapping[str, str], own: Mapping[str, str]) -> list[dict[str, str]]:
    """The labels as tags ``mlretrain:<label>``, cleaned; the options' own tags as they are.

    Raises :class:`~mlretrain.errors.ConfigError` for tags that AWS would refuse.
    """
    for name, value in own.items():
        if not name or _tag_text(name, _LONGEST_NAME) != name or name.lower().startswith("aws:"):
            raise wrong(
                "tags", repr(name), "128 letters, digits, spaces and _.:/=+-@, not beginning with aws:"
            )
        if _tag_text(value, _LONGEST_VALUE) != value:
            raise wrong(f"tags.{name}", repr(value), "256 letters, digits, spaces and _.:/=+-@")
    cleaned = {
        _tag_text(f"mlretrain:{name}", _LONGEST_NAME): _tag_text(value, _LONGEST_VALUE)
        for name, value in labels.items()
    }
    tags = {**cleaned, **own}
    if len(tags) > _MOST_TAGS:
        raise wrong("tags", str(len(tags)), f"{_MOST_TAGS}, labels included")
    return [{"Key": name, "Value": tags[name]} for name in sorted(tags)]


def _tag_text(text: str, limit: int) -> str:
    return "".join(each if _is_tag_character(each) else "_" for each in text)[:limit]


def _is_tag_character(character: str) -> bool:
    return character in "_.:/=+-@" or unicodedata.category(character)[0] in "LZN"
