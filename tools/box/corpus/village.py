"""The invented village of Lindle: twenty villagers, each with a job, a pet and a house."""

VILLAGE = "Lindle"
_TABLE = """
Mira baker cat blue
Jonas miller dog red
Petra doctor horse white
Anton fisher duck green
Greta tailor goat yellow
Viktor smith cow brown
Olga teacher rabbit pink
Emil painter bird grey
Hanna singer hen purple
Karl farmer pig orange
Rosa gardener frog black
Stefan builder cat red
Ida cook mouse green
Marco driver monkey yellow
Freya shepherd sheep white
Rolf guard dog black
Tessa dentist fish pink
Ivan hunter horse brown
Berta weaver bird orange
Nils clown snake blue
"""
ROWS = tuple(tuple(line.split()) for line in _TABLE.split("\n") if line)
NAMES = tuple(row[0] for row in ROWS)
JOBS = {row[0]: row[1] for row in ROWS}
PETS = {row[0]: row[2] for row in ROWS}
HOUSES = {row[0]: row[3] for row in ROWS}
