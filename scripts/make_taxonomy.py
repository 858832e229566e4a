"""Make the taxonomy that a new hub starts with from the index of the archived AdapterHub (Apache-2.0).

python scripts/make_taxonomy.py hub_archive.tar.gz
"""

import json
import sys
from pathlib import Path

from adapterhub.hub.server.catalogue import archive_reading, taxonomy

NOTICE = (
    "Tasks, languages and data sets of AdapterHub (github.com/adapter-hub/Hub), Copyright the AdapterHub team, "
    "licensed under the Apache License 2.0; names of languages were made codes, the rest is shortened in form alone."
)


def main(path: Path) -> None:
    """Write the file of the package."""
    archive = archive_reading.read(path)
    made = [
        {
            "kind": kind,
            "slug": slug,
            "title": content["displayname"],
            "description": (content.get("description") or "").strip(),
            "datasets": [
                archive_reading.dataset(archive, one)
                for (_, task, _), one in sorted(archive.datasets.items())
                if task == slug
            ],
        }
        for (kind, slug), content in sorted(archive.tasks.items(), key=lambda one: (one[0][0] != "task", one[0][1]))
    ]
    # A line a task: small, and changes of it can be read.
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in made)
    text = f'{{"notice":{json.dumps(NOTICE)},"tasks":[\n{lines}\n]}}\n'
    taxonomy.SHIPPED.write_text(text, encoding="utf-8")
    print(
        f"{len(made)} tasks and languages, {sum(len(one['datasets']) for one in made)} data sets, {len(text):,} bytes"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
