"""Base models: what is known of them, and what can be loaded into them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, Field, field_validator, model_validator

from adapterhub.hub.bases import Base
from adapterhub.hub.compatibility import Level
from adapterhub.hub.server.api.fingerprints import FingerprintBody
from adapterhub.hub.server.api.narrowing import Narrowed, Text
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.api.routing import router
from adapterhub.hub.server.api.views import Listing, Verdict
from adapterhub.hub.server.catalogue import bases, compatible
from adapterhub.hub.server.catalogue.compatible import Group, Trained
from adapterhub.hub.server.context import TheActor, TheHub

routes = router("base models")
