"""Credentials of index URLs do not come through."""

import pytest

from jobsphere.environments.masking import masker


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://user:p%40ssword@h/simple failed", "GET https://***@h/simple failed"),
        ("GET https://unknown:other@h/", "GET https://***@h/"),
        ("https://a@b@h/", "https://***@h/"),
        ("password p@ssword or p%40ssword", "password *** or ***"),
        ("token lonely-token", "token ***"),
        ("?key=abcdef", "?***"),
        ("mail a@b.example, https://h/@scope", "mail a@b.example, https://h/@scope"),
    ],
)
def test_credentials_are_masked_by_value_and_by_place(text: str, shown: str) -> None:
    mask = masker(["https://user:p%40ssword@h/simple", "https://lonely-token@h/", "https://h/?key=abcdef"])
    assert mask(text) == shown


def test_a_tiny_password_does_not_blot_out_the_text() -> None:
    assert masker(["https://u:a@h/"])("a banana") == "a banana"
