"""For the reference: show a field of an attrs class with its default, instead of with `attrs.field(...)`."""

from typing import Any

import griffe


class AttrsDefaults(griffe.Extension):
    """Replace `attrs.field(default=4, ...)` by `4`; a field without a default shows none."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Rewrite one field, before the page is made."""
        value = attr.value
        if isinstance(value, griffe.ExprCall) and str(value.function) in {"attrs.field", "field"}:
            given = {
                item.name: item.value for item in value.arguments if isinstance(item, griffe.ExprKeyword)
            }
            made = f"{given['factory']}()" if "factory" in given else None
            attr.value = given.get("default", made)
