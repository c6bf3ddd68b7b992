# Everything a person or a CI does with this checkout.
