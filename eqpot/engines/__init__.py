"""eqpot in other engines, and one structure on many processes."""
