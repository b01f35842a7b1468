"""From a model and data to a store: what is measured is decided and checked first, then run task by task."""
