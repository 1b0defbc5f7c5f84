"""What holds for every page of a report."""

import re

LOADS = r"<(?:script|img|link|iframe|source|video|audio|embed|object)\b[^>]*?"


def check(page):
    """Assert that a page loads nothing from elsewhere, describes its pictures, and that its links
    and all that it loads lead to files beside it."""
    text = page.read_text()
    loaded = re.findall(LOADS + r"""(?:src|href|data)=["']?([^"'\s>]+)""", text)
    assert not [address for address in loaded if re.match(r"(https?:)?//", address)], page.name
    outside = r"""@import\s|url\(\s*["']?(https?:)?//|fetch\(\s*["']http"""
    assert not re.search(outside, text), page.name
    for tag in re.findall(r"<img [^>]*>", text):
        assert re.search(r'alt="(?!No description)[^"]{8,}"', tag), f"{page.name}: {tag}"
    for link in re.findall(r'(?:href|src)="([^"#][^"]*)"', text):
        if not re.match(r"https?:|data:|mailto:", link):
            assert (page.parent / link.split("#")[0]).exists(), f"{page.name}: {link}"
