"""Bundles that someone changed, with sums that fit."""

import hashlib
import json


def reseal(path):
    """Makes the sums fit what is in a bundle, as someone who means harm would."""
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and p.name != "SHA256SUMS"]
    lines = [f"{digest(p)}  {p.relative_to(path).as_posix()}\n" for p in files]
    (path / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def change_config(path, **changes):
    config = json.loads((path / "config.json").read_text("utf-8"))
    config["architecture"] |= changes
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    reseal(path)
