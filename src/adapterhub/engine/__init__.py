"""What binds sites, methods and compositions to a model."""

from adapterhub.engine.adapter import Adapter
from adapterhub.engine.bank import Bank
from adapterhub.engine.engine import Engine
from adapterhub.engine.fusion import Fusion
from adapterhub.engine.plan import Plan
from adapterhub.engine.setup import AdapterSetup, setups_open
from adapterhub.engine.trunk import Trunk

__all__ = ["Adapter", "AdapterSetup", "Bank", "Engine", "Fusion", "Plan", "Trunk", "setups_open"]
