"""The dashboard's files: everybody may have them, they ask nobody else, and speak two languages."""

from __future__ import annotations

import gzip
import http.client
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx
import pytest

from src import vocabulary
from src.api import dashboard
from src.api.main import create_app
from src.settings import Settings

NGINX = Path("nginx/nginx.conf")
SCRIPTS = sorted((dashboard.FOLDER / "js").rglob("*.js"))
OURS = sorted(path for path in dashboard.FOLDER.rglob("*") if path.is_file())
# Of a slow line: all scripts and styles of ours together, as they go over it.
MOST_COMPRESSED_BYTES = 100_000
# Addresses that name something and from which nothing is loaded.
NAMES = {"http://www.w3.org/2000/svg"}
# t("key"), and "key" where one of two is chosen.
KEY = re.compile(r"""\bt\(\s*"([^"]+)"|[?:]\s"([a-z_]+\.[a-z_0-9]+)"[ ,):;]""")
ENTRY = re.compile(r"""^ {2}"([^"]+)": "(.*)",$""", re.MULTILINE)


@pytest.fixture(scope="module")
def anyone(api: httpx.Client) -> Iterator[httpx.Client]:
    """Somebody without a key."""
    with httpx.Client(base_url=api.base_url, timeout=10) as client:
        yield client


def names() -> list[str]:
    return sorted(dashboard.files())


@pytest.mark.parametrize(
    "path", ["", "/", "/nodes", "/nodes/a%2Fb", "/incidents/42?tab=1", "/sign-in?next=%2Fdashboard", "/no/such/page"]
)
def test_every_page_is_the_same_page_for_everybody(anyone: httpx.Client, path: str) -> None:
    answer = anyone.get(f"/dashboard{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    written = (dashboard.FOLDER / "index.html").read_bytes()
    assert re.sub(rb"/files/[0-9a-f]{12}/", b"/files/", answer.content) == written


def test_every_file_is_served_with_its_type_and_a_strict_policy(anyone: httpx.Client) -> None:
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    for name in [name for name in names() if name != "index.html"]:
        answer = anyone.get(f"/dashboard/files/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"] == types[name.rpartition(".")[2]]
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-security-policy"] == dashboard.POLICY
        assert answer.content, name


def test_the_policy_lets_nothing_in_but_from_here() -> None:
    assert "unsafe" not in dashboard.POLICY
    assert {word for word in dashboard.POLICY.replace(";", "").split() if "'" in word} == {"'none'", "'self'"}


def test_nginx_says_the_same_policy_once() -> None:
    configured = NGINX.read_text()
    assert f'"~^/dashboard(/|$)" "{dashboard.POLICY}";' in configured
    assert "proxy_hide_header Content-Security-Policy;" in configured
    compressed = re.search(r"gzip_types ([^;]*);", configured)
    assert compressed is not None
    assert {"text/javascript", "text/css", "image/svg+xml"} <= set(compressed[1].split())


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/files/js/main.js", "/dashboard/settings.json"])
def test_what_a_browser_has_is_not_sent_again(anyone: httpx.Client, path: str) -> None:
    etag = anyone.get(path).headers["etag"]
    for known in (etag, etag.removeprefix("W/"), f'"another", {etag}', "*"):
        again = anyone.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert anyone.get(path, headers={"if-none-match": '"another"'}).status_code == 200


def test_the_page_names_its_files_by_what_is_in_them_so_that_a_browser_fetches_them_once(anyone: httpx.Client) -> None:
    named = re.findall(r"/dashboard/files/[^\"]+", anyone.get("/dashboard").text)
    assert len(named) == (dashboard.FOLDER / "index.html").read_text().count("/dashboard/files/")
    for path in named:
        assert anyone.get(path).headers["cache-control"] == "public, max-age=31536000, immutable", path
    # A page of another version, as while replicas are updated one after the other.
    digest = named[0].split("/")[3]
    answer = anyone.get(named[0].replace(digest, "0" * len(digest)))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


def test_files_are_compressed_for_who_can_read_it(anyone: httpx.Client) -> None:
    path = "/dashboard/files/js/main.js"
    compressed, plain = (anyone.get(path, headers={"accept-encoding": coding}) for coding in ("gzip", "identity"))
    assert compressed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert compressed.content == plain.content
    assert int(compressed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert compressed.headers["vary"] == plain.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    "name",
    ["js/nothing.js", "", "js", "index.html", "../dashboard.py", "%2e%2e/dashboard.py", "js/%2e%2e/%2e%2e/dashboard.py",
     "%2fetc%2fpasswd", "vendor/LICENSE.txt"],
)  # fmt: skip
def test_what_is_no_file_of_the_dashboard_is_not_found(anyone: httpx.Client, name: str) -> None:
    # Not by httpx, which resolves the dots itself.
    connection = http.client.HTTPConnection(anyone.base_url.host, anyone.base_url.port or 80, timeout=10)
    connection.request("GET", f"/dashboard/files/{name}")
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 404
    assert b"import" not in body


def test_the_settings_say_what_pages_need_and_no_more(anyone: httpx.Client) -> None:
    assert anyone.get("/dashboard/settings.json").json() == {
        "utility_timezone": "Europe/Rome",
        "language": "it",
        "api_auth": "required",
        "version": create_app(Settings()).version,
    }


def test_a_session_says_whose_it_is(api: httpx.Client, anyone: httpx.Client) -> None:
    opened = anyone.post("/api/v1/session", headers={"x-api-key": api.headers["x-api-key"]}, json={"is_display": True})
    assert opened.status_code == 201
    [present] = [one for one in anyone.get("/api/v1/session").json() if one["is_current"]]
    assert (present["key_name"], present["scope"]) == ("test", "read")
    assert anyone.delete("/api/v1/session").status_code == 204


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(dashboard.FOLDER).as_posix())
def test_no_file_asks_another_host(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"')>]*", text)) <= NAMES
    assert "@import" not in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_of_text(path: Path) -> None:
    forbidden = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser")
    assert [word for word in forbidden if word in path.read_text()] == []


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    page = (dashboard.FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", page) == []


def test_everything_that_the_page_and_its_scripts_load_is_there() -> None:
    served = set(names())
    page = (dashboard.FOLDER / "index.html").read_text()
    loaded = set(re.findall(r"/dashboard/files/([^\"]+)", page))
    for script in SCRIPTS:
        for imported in re.findall(r"""(?:from|import\()\s*"(\.[^"]+)\"""", script.read_text()):
            loaded.add((script.parent / imported).resolve().relative_to(dashboard.FOLDER.resolve()).as_posix())
    assert sorted(loaded - served) == []


def dictionaries() -> dict[str, dict[str, str]]:
    """Words by language and key, of all dictionaries together."""
    words: dict[str, dict[str, str]] = {"it": {}, "en": {}}
    for path in sorted((dashboard.FOLDER / "js").glob("words_*.js")):
        for language, block in re.findall(r"^export const (it|en) = \{(.*?)^\};?$", path.read_text(), re.M | re.S):
            found = ENTRY.findall(block)
            assert len(found) == block.count('": "'), f"{path.name}: an entry is not on a line of its own"
            assert not set(words[language]) & {key for key, _ in found}, f"{path.name} repeats a key"
            words[language] |= dict(found)
    return words


def test_both_languages_have_the_same_words_with_the_same_values_in_them() -> None:
    words = dictionaries()
    assert words["it"].keys() == words["en"].keys()
    assert len(words["en"]) > 300
    holes = {
        language: {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in of.items()}
        for language, of in words.items()
    }
    assert holes["it"] == holes["en"]
    assert [key for of in words.values() for key, text in of.items() if not text.strip()] == []


def test_every_word_that_a_script_wants_is_in_the_dictionaries() -> None:
    known = dictionaries()["en"].keys()
    wanted = {
        (path.name, key)
        for path in SCRIPTS
        if not path.name.startswith("words_")
        for found in KEY.findall(path.read_text())
        for key in found
        if key
    }
    assert len(wanted) > 200
    assert sorted((name, key) for name, key in wanted if key not in known) == []


def test_words_of_a_fixed_meaning_are_all_translated() -> None:
    known = dictionaries()["en"].keys()
    kinds = {
        "kind": vocabulary.AnomalyType, "severity": vocabulary.Severity, "role": vocabulary.Role,
        "work": vocabulary.WorkKind, "leak": vocabulary.LeakKind, "model_type": vocabulary.ModelType,
        "method": vocabulary.BalanceMethod, "window": vocabulary.BalanceWindow,
    }  # fmt: skip
    wanted = {f"{kind}.{word}" for kind, words in kinds.items() for word in get_args(words)}
    wanted |= {f"method.{word}" for word in get_args(vocabulary.DetectionMethod)}
    assert sorted(wanted - known) == []


def test_scripts_and_styles_are_small() -> None:
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in OURS}
    assert sum(sizes.values()) < MOST_COMPRESSED_BYTES, sizes


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node to check the scripts' syntax")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_modules(path: Path) -> None:
    checked = subprocess.run(
        ["node", "--check", "--input-type=module"], input=path.read_bytes(), capture_output=True, timeout=30
    )
    assert checked.returncode == 0, checked.stderr.decode()
