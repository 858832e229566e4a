"""What lists, counts and answers about base models are narrowed by."""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy.orm import Session

from adapterhub.hub.server.catalogue import compatible
from adapterhub.hub.server.catalogue.filters import Filters

Text = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00]*$")]
Texts = Annotated[list[Text], Field(max_length=50)]
_BIGGEST = 1 << 62


class Kinds(BaseModel):
    """What adapters have to be, whatever base model they are for."""

    task: Texts = Field([], description="Tasks or languages, by name")
    dataset: Texts = Field([], description="`task/dataset`, or data sets by name; what is a part of them counts")
    language: Texts = []
    method: Texts = []
    format: Texts = []
    kind: Texts = []
    license: Texts = []
    owner: Texts = []
    head: Texts = Field([], description="Types of prediction heads")
    tag: Texts = Field([], description="Tags of the card, all of which there have to be")
    verified: bool | None = Field(None, description="Whether somebody else than the owner measured the score")
    withdrawn: bool = Field(False, description="Those that were withdrawn in the place of all others")
    min_size: int | None = Field(None, ge=0, le=_BIGGEST, description="Of the files, in bytes")
    max_size: int | None = Field(None, ge=0, le=_BIGGEST)

    def filters(self, session: Session) -> Filters:
        """The same for the catalogue."""
        values: dict[str, Any] = {name: getattr(self, name) for name in Kinds.model_fields}
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return Filters(**values)


class Filtered(Kinds):
    """What adapters have to be; of several values of one name any will do, of several names all have to be met."""

    base: Texts = Field([], description="The base models that adapters were made for")
    compatible_with: Text | None = Field(None, description="A base model, by name, that they fit (derived or better)")

    def filters(self, session: Session) -> Filters:
        """The same for the catalogue.

        Raises:
            HubNotFoundError: for a base model of which nothing is known.
        """
        bases = None
        if self.compatible_with:
            wanted = compatible.asked(session, name=self.compatible_with)
            bases = compatible.fitting(compatible.verdicts(session, wanted))
        return replace(super().filters(session), base=tuple(self.base), bases=bases)


class Narrowed(Filtered):
    """What adapters have to be, and to say."""

    q: Text = Field("", description="Words, anywhere in names, tags and cards; the last may be unfinished")
