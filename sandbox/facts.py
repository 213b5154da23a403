"""The facts of one municipal case: who, where, how much, when. People, streets and firms are invented."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from unicodedata import normalize

CITY = "City of Alder Falls"


def _listed(text: str) -> list[str]:
    return [" ".join(item.split()) for item in text.split(";")]


_FIRST = _listed(
    """
    Maria; James; Aisha; Tomás; Renée; Daniel; Priya; Walter; Chloé; Marcus; Ingrid; Björn; Denise; Óscar;
    Fatima; Gordon; Lucía; Samuel; Beatrix; Kwame; Helen; Andrés; Noor; Patrick; Yuki; Zoë; Harold; Amara;
    Vincent; Soledad; Grace; Teodor; Wanda; Ravi; Josephine; Elias; Carmen; Leonard; Miriam; Dmitri; Nadine;
    Owen; Tamsin; Hector; Louise; Abel
    """
)
_LAST = _listed(
    """
    Castellanos; Whitaker; Okafor; Núñez; Lindqvist; Abernathy; Raman; Petrosyan; Delacroix; Grüber;
    Halloran; Ortega; Mbeki; Sandoval; Thornbury; Vasquez; Kowalczyk; O'Rourke; Fairweather; Hakimi;
    Jorgensen; Mwangi; Pellegrini; Redfern; Tanaka; Umbridge-Hale; Villanueva; Wexler; Yoshida; Zimmer;
    Bancroft; Carver; Dunleavy; Esposito; Fontaine; Gallardo; Hutchins; Ibarra; Kessler; Marchetti;
    Nakamura; Overstreet; Prudhomme; Quintero; Rosewood; Szabo
    """
)
_STREETS = _listed(
    """
    Larkspur Lane; Mill Race Road; Old Quarry Drive; Harbor View Terrace; Second Avenue; Chestnut Street;
    Ferrier Court; Water Street; Beacon Hill Road; Juniper Way; Canal Street; Prospect Avenue; Tannery Row;
    Foxglove Circle; North Orchard Street; Depot Street; Sycamore Boulevard; Weaver Lane; St. Clement Place;
    Ridgeline Drive; Alder Creek Road; West Granary Street; Copper Kettle Lane; Lindenwood Avenue; Ropewalk
    Alley; Fairground Parkway
    """
)
_UNITS = ("Apt 2B", "Unit 14", "Suite 300", "Apt 5", "Unit C", "#7")
_FIRMS = _listed(
    """
    Copper Kettle Bakery LLC; Blue Heron Cycles; Tidewater Plumbing & Heating Inc.; Three Oaks Day Care;
    Falls Tattoo Collective; Granary Street Tap Room LLC; Nightingale Home Care Inc.; Sunrise Nail Studio;
    Riverbend Auto Repair; Paper Lantern Bookshop; Alder Falls Axe Throwing LLC; Kestrel Roofing Co.;
    Marigold Flowers & Gifts; Second Avenue Laundromat; Brightwater Dental PLLC; Old Mill Pizzeria LLC
    """
)
_CONTRACTORS = _listed(
    """
    Kestrel Roofing Co.; Hollis & Daughters Construction; Tidewater Plumbing & Heating Inc.; Ironwood
    Builders LLC; Falls Electric Cooperative; Summit Deck and Patio
    """
)
_OFFICERS = ("D. Marchbanks", "R. Iwu", "L. Tremaine", "S. Hollander", "P. Novak", "C. Esteban")


@dataclass(frozen=True)
class Facts:
    """What one case is about. `choice` keeps to the case's own random numbers."""

    random: Random
    number: int
    applicant: str
    other: str
    """A second person: the landlord, the defendant, the neighbour."""
    firm: str
    contractor: str
    officer: str
    address: str
    other_address: str
    parcel: str
    email: str
    phone: str
    filed: date

    def choice(self, *options: str) -> str:
        return self.random.choice(options)

    def some(self, count: int, *options: str) -> list[str]:
        """So many different options, in an order of their own."""
        return self.random.sample(options, count)

    def between(self, low: int, high: int, step: int = 1) -> int:
        return self.random.randrange(low, high + 1, step)

    def in_days(self, low: int, high: int) -> date:
        """A day so long after the filing, moved to the Monday where it falls on a weekend."""
        day = self.filed + timedelta(days=self.between(low, high))
        return day + timedelta(days=7 - day.weekday() if day.weekday() > 4 else 0)


def draw(random: Random, number: int, filed: date) -> Facts:
    """A case drawn from these random numbers; `number` tells it from all other cases."""
    first, last = random.choice(_FIRST), random.choice(_LAST)
    address = _address(random)
    return Facts(
        random=random,
        number=number,
        applicant=_person(random, first, last),
        other=f"{random.choice(_FIRST)} {random.choice(_LAST)}",
        firm=random.choice(_FIRMS),
        contractor=random.choice(_CONTRACTORS),
        officer=random.choice(_OFFICERS),
        address=address,
        other_address=_address(random),
        parcel=f"{random.randrange(12, 88):03}-{random.randrange(100, 460)}-{random.randrange(1, 60):02}",
        email=_email(random, first, last),
        phone=f"555-01{random.randrange(100):02}",
        filed=filed,
    )


def _person(random: Random, first: str, last: str) -> str:
    if random.random() < 0.2:
        return f"{first} {random.choice('ABCDEGHJKLMPRST')}. {last}"
    return f"{first} {last}"


def _address(random: Random) -> str:
    address = f"{random.randrange(2, 2400)} {random.choice(_STREETS)}"
    return f"{address}, {random.choice(_UNITS)}" if random.random() < 0.15 else address


def _email(random: Random, first: str, last: str) -> str:
    plain_first, plain_last = (
        normalize("NFKD", name).encode("ascii", "ignore").decode().replace("'", "").lower()
        for name in (first, last)
    )
    local = random.choice(
        (
            f"{plain_first}.{plain_last}",
            f"{plain_first[0]}{plain_last}",
            f"{plain_last}{random.randrange(60, 99)}",
        )
    )
    return f"{local}@{random.choice(('example.org', 'example.com', 'mail.example.com'))}"


def long_date(day: date) -> str:
    return f"{day:%B} {day.day}, {day.year}"


def us_date(day: date) -> str:
    return f"{day:%m/%d/%Y}"


def money(amount: float) -> str:
    return f"${amount:,.2f}"
