"""What the wizard writes holds no secret, however deep it was given."""

from __future__ import annotations

from ninefold.stewardship.trying import fragment


def test_nested_secrets_become_variables() -> None:
    given = {
        "url": "https://api.example.org/items",
        "headers": {"Accept": "application/json"},
        "secret_headers": {"X-Api-Key": "TOPSECRET"},
    }
    part, needed = fragment("rest", "shop-api", given)
    assert "TOPSECRET" not in str(part)
    assert part["sources"]["shop-api"]["secret_headers"] == {"X-Api-Key": "${SHOP_API_SECRET_HEADERS_X_API_KEY}"}
    assert needed == {"SHOP_API_SECRET_HEADERS_X_API_KEY": "secret_headers.X-Api-Key"}
    assert part["sources"]["shop-api"]["headers"] == given["headers"]
