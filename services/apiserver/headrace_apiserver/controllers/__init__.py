"""What the writer does by itself: namespaces, owners, definitions, Events."""
