"""How the engines of a machine share its cores: who takes how many threads for what it computes next."""
