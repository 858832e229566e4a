"""Make the taxonomy that a new hub starts with from the index of the archived AdapterHub (Apache-2.0).

python scripts/make_taxonomy.py hub_archive.tar.gz
"""

import json
import sys
from pathlib import Path

from adapterhub.hub.server.catalogue import archive_reading, taxonomy
from adapterhub.hub.server.catalogue.archive_reading import Archive

NOTICE = (
    "Tasks, languages and data sets of AdapterHub (github.com/adapter-hub/Hub), Copyright the AdapterHub team, "
    "licensed under the Apache License 2.0; names of languages were made codes, the rest is shortened in form alone."
)


def main(path: Path) -> None:
    """Write the file of the package."""
    archive = archive_reading.read(path)
    codes = {content["displayname"].lower(): slug for (kind, slug), content in archive.tasks.items() if kind != "task"}
    made = [
        {
            "kind": kind,
            "slug": slug,
            "title": content["displayname"],
            "description": (content.get("description") or "").strip(),
            "datasets": datasets(archive, kind, slug, codes),
        }
        for (kind, slug), content in sorted(archive.tasks.items(), key=lambda one: (one[0][0] != "task", one[0][1]))
    ]
    # A line a task: small, and changes of it can be read.
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in made)
    text = f'{{"notice":{json.dumps(NOTICE)},"tasks":[\n{lines}\n]}}\n'
    taxonomy.SHIPPED.write_text(text, encoding="utf-8")
    print(f"{len(made)} tasks and languages, {sum(len(one['datasets']) for one in made)} data sets, {len(text):,} bytes")


def datasets(archive: Archive, kind: str, task: str, codes: dict[str, str]) -> list[dict[str, object]]:
    """Those of a task; what is not known is left out."""
    made = []
    for (_, _, slug), content in sorted(one for one in archive.datasets.items() if one[0][:2] == (kind, task)):
        metric = content.get("metric") or {}
        language = (content.get("language") or "").lower()
        values = {
            "slug": slug,
            "title": content.get("displayname") or slug,
            "description": (content.get("description") or "").strip(),
            "citation": (content.get("citation") or "").strip(),
            "url": content.get("url") or "",
            "source": content.get("hf_datasets_id") or "",
            "language": task if kind == "language" else codes.get(language, language if language in codes.values() else ""),
            "metric": metric.get("name", ""),
            "higher_is_better": metric.get("higher_is_better", True),
        }
        made.append({key: value for key, value in values.items() if value not in ("", True)})
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]))
