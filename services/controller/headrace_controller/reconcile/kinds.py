"""The kinds that this controller reconciles. A new kind is a CRD file, a module with a
`KindReconciler`, and its name here.
"""

from headrace_controller.reconcile import brokers, event_types, triggers
from headrace_controller.reconcile.registry import Reconcilers

RECONCILERS = Reconcilers(brokers.RECONCILER, triggers.RECONCILER, event_types.RECONCILER)
