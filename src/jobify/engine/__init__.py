"""The services that run jobs; ``engine`` puts them together."""
