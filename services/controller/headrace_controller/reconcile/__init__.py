"""Reconcile: a pure function from the observed state to the next steps.

`registry` describes what a kind is to the controller, `kinds` lists the registered ones and
`reconciler` decides. What all addressables and all subscriptions need is in `addressable` and
`subscription`.
"""
