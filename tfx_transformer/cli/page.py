"""The verb that makes a page for browsers: page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfx_transformer.cli.engines import Variant


def page(
    bundle: Path,
    /,
    *,
    save: Path | None = None,
    single: bool = False,
    variant: Variant | None = None,
    litert_js: Path | None = None,
) -> dict[str, Any]:
    """Make a page that runs a bundle in the browser, offline.

    Args:
        bundle: Folder of a bundle, such as saved_models/en_ja.
        save (PLACE): Folder of the page, or its file. [pages/NAME, pages/NAME.html]
        single: Make one HTML file, which opens without a web server too.
        variant: TFLite file to run. [the first in the bundle]
        litert_js (PATH): The npm package @litertjs/core, or its archive. [downloaded once]
    """
    from tfx_transformer.page import page_files, single_page, write_page, write_single

    name = bundle.resolve().name
    if single:
        file = save or Path("pages", f"{name}.html")
        written = write_single(single_page(bundle, variant, litert_js), file)
        size = written.stat().st_size
        print(f"{written}: {size / 1e6:,.1f} MB. Open it in a browser.")
        return {"file": str(written), "bytes": size}
    content = page_files(bundle, variant, litert_js)
    written = write_page(content, save or Path("pages", name))
    size = sum(map(len, content.values()))
    print(
        f"{written}: {size / 1e6:,.1f} MB in {len(content)} files. Serve the folder:\n"
        f"  python -m http.server --directory {written.parent} 8000\n"
        "  then http://localhost:8000"
    )
    return {"file": str(written), "bytes": size}
