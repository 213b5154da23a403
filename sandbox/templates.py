"""What people write to a city: several forms, letters and reports of each kind of document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sandbox.facts import CITY, Facts, long_date, money, us_date
from sandbox.formats import Block, Fields, Grid, Heading

DEPARTMENTS: Mapping[str, str] = {
    "building_permit": "Building Department",
    "business_license": "Finance & Licensing",
    "foi_request": "City Clerk",
    "zoning_variance": "Planning & Zoning",
    "complaint": "Code Enforcement",
    "benefits_application": "Human Services",
    "court_filing": "Municipal Court",
    "other": "General Intake",
}


@dataclass(frozen=True)
class Draft:
    """A written document before it is saved in some format.

    `fields` is the truth that the text tells: applicant_name, address, parcel_number, case_number,
    amount (digits and point), date (ISO), email; only those that it does tell.
    """

    title: str
    blocks: tuple[Block, ...]
    fields: Mapping[str, str]
    stems: tuple[str, ...]
    """File names that people would give it, without the ending."""
    letterhead: bool = True
    boxed: bool = False
    urgent: bool = False
    author: str = "Front Counter"
    mail_from: str = ""
    """Who sends it when it is not the applicant."""


class Template(NamedTuple):
    kind: str
    formats: tuple[str, ...]
    write: Callable[[Facts], Draft]


TEMPLATES: list[Template] = []


def _template(kind: str, formats: str) -> Callable[[Callable[[Facts], Draft]], Callable[[Facts], Draft]]:
    def register(write: Callable[[Facts], Draft]) -> Callable[[Facts], Draft]:
        TEMPLATES.append(Template(kind, tuple(formats.split()), write))
        return write

    return register


def _fields(*pairs: tuple[str, str]) -> Fields:
    return Fields(pairs)


def _grid(*rows: tuple[str, ...]) -> Grid:
    return Grid(rows)


# Building Department


@_template("building_permit", "pdf docx odt xlsx")
def permit_application(f: Facts) -> Draft:
    number = f"BP-{f.filed.year}-{f.number:05}"
    cost = f.between(4_000, 180_000, 250)
    work = f.choice(
        "Construct a 12 ft x 16 ft attached deck with stairs at the rear of the dwelling. Footings to frost "
        "depth, ledger bolted to the rim joist, guardrail 36 in. above the deck surface.",
        "Convert the unfinished basement into a family room and a bathroom. New egress window in the north "
        "wall, interior partitions, no change to load-bearing walls.",
        "Build a detached two-car garage of 576 sq ft on a monolithic slab, gable roof, no plumbing.",
        "Remove the wall between kitchen and dining room and install an engineered beam as shown on sheet "
        "S-2. Replace cabinets and relocate two receptacles.",
    )
    return Draft(
        title="Application for Building Permit",
        boxed=True,
        blocks=(
            "Form BD-101. Please print. Incomplete applications will be returned to the applicant.",
            Heading("Section 1 - Applicant and property"),
            _fields(
                (f.choice("Applicant", "Applicant name", "Name of applicant"), f.applicant),
                ("Telephone", f.phone),
                ("E-mail", f.email),
                (f.choice("Property address", "Site address", "Address of work"), f.address),
                (f.choice("Parcel No.", "APN", "Assessor's parcel number"), f.parcel),
            ),
            Heading("Section 2 - Proposed work"),
            work,
            _fields(
                ("Permit no.", number),
                ("Contractor", f.contractor),
                ("Estimated cost of work", money(cost)),
                (f.choice("Date of application", "Date filed"), us_date(f.filed)),
            ),
            Heading("Section 3 - Declaration"),
            "I certify that I am the owner of the property or authorized by the owner, and that all work "
            "will comply with the adopted building code. The permit expires if work has not commenced "
            "within 180 days.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "parcel_number": f.parcel,
            "case_number": number,
            "amount": f"{cost}.00",
            "date": f.filed.isoformat(),
        },
        stems=(number, f"Building permit application - {f.address}", f"BD-101 {f.applicant}"),
        author=f.applicant,
    )


@_template("building_permit", "pdf html json csv")
def trade_permit(f: Facts) -> Draft:
    trade = f.choice("Electrical", "Plumbing", "Mechanical", "Roofing")
    number = f"{trade[0]}P{f.filed:%y}-{f.number:04}"
    valuation = f.between(900, 24_000, 50)
    fee = 45 + valuation * 0.012
    return Draft(
        title=f"{trade} Permit Application",
        blocks=(
            Heading("Permit"),
            _fields(
                ("Application no.", number),
                ("Date filed", f.filed.isoformat()),
                ("Permit type", f"{trade} - {f.choice('residential', 'commercial')}"),
            ),
            Heading("Applicant"),
            _fields(
                ("Applicant name", f.applicant),
                ("Email", f.email),
                ("Phone", f.phone),
                ("Licensed contractor", f.contractor),
            ),
            Heading("Job site"),
            _fields(("Site address", f.address), ("Parcel number", f.parcel)),
            Heading("Fees"),
            _fields(("Job valuation", money(valuation)), ("Permit fee due", money(fee))),
            f"Scope of work: {trade.lower()} work in an existing building according to the attached plan. "
            "Rough-in and final inspection to be requested from the Building Department at least one "
            "business day ahead.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "parcel_number": f.parcel,
            "case_number": number,
            "amount": f"{fee:.2f}",
            "date": f.filed.isoformat(),
        },
        stems=(f"{number}", f"{trade} permit {f.address}", f"online_permit_{number}"),
    )


@_template("building_permit", "docx rtf eml pdf")
def permit_letter(f: Facts) -> Draft:
    cost = f.between(15_000, 420_000, 500)
    works = f.choice("an addition", "structural repairs", "interior alterations")
    return Draft(
        title=f"Building permit application for {f.address}",
        letterhead=False,
        blocks=(
            f"{long_date(f.filed)}",
            "To the Building Department:",
            f"On behalf of the owner we submit the enclosed building permit application for {works} "
            "at the address below. Two sets of stamped construction drawings, the energy compliance form "
            "and the truss calculations are enclosed.",
            _fields(
                ("Applicant", f.applicant),
                ("Property address", f.address),
                ("APN", f.parcel),
                ("Estimated construction cost", money(cost)),
                ("General contractor", f.contractor),
            ),
            f"The owner hopes to break ground before {long_date(f.in_days(40, 90))}. Should the plans "
            f"examiner have questions about the foundation detail or the setback dimensions, please call {f.phone} "
            f"or write to {f.email}.",
            "Respectfully,",
            f"{f.applicant}",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "parcel_number": f.parcel,
            "amount": f"{cost}.00",
            "date": f.filed.isoformat(),
        },
        stems=(f"Permit submittal {f.address}", f"Letter Building Dept {f.filed.isoformat()}"),
        author=f.applicant,
    )


@_template("building_permit", "docx pdf json")
def demolition_permit(f: Facts) -> Draft:
    number = f"DEMO-{f.filed.year}-{f.number:03}"
    fee = f.between(150, 900, 25)
    return Draft(
        title="Demolition Permit Application",
        blocks=(
            "Building Department form BD-140, to be filed at least ten days before demolition starts.",
            Heading("Owner"),
            _fields(
                ("Permit number", number),
                ("Name of applicant", f.applicant),
                ("Mailing address", f.other_address),
                ("Contact e-mail", f.email),
            ),
            Heading("Structure to be demolished"),
            _fields(
                ("Address of property", f.address),
                ("Tax parcel no.", f.parcel),
                (
                    "Structure",
                    f.choice(
                        "Detached garage, wood frame",
                        "Single-family dwelling, built 1931",
                        "Barn, pole construction",
                    ),
                ),
                ("Demolition contractor", f.contractor),
                ("Date of application", long_date(f.filed)),
                ("Fee paid", money(fee)),
            ),
            "Utilities have been disconnected and capped; the letters of the gas, water and electric "
            "utility are attached. An asbestos survey found no regulated material. The lot will be graded "
            "and seeded within 30 days of the demolition.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "parcel_number": f.parcel,
            "case_number": number,
            "amount": f"{fee}.00",
            "date": f.filed.isoformat(),
        },
        stems=(f"{number}", f"Demolition {f.address}"),
        author=f.applicant,
    )


# Finance & Licensing


@_template("business_license", "pdf docx xlsx odt")
def license_application(f: Facts) -> Draft:
    number = f"BL-{f.filed:%y}-{f.number:04}"
    fee = f.between(75, 450, 25)
    return Draft(
        title="Business License Application",
        boxed=True,
        blocks=(
            "Form FL-20. A separate license is required for every place of business in the city.",
            Heading("A. The business"),
            _fields(
                ("Legal name of business", f.firm),
                (f.choice("Business address", "Address of business", "Location of business"), f.address),
                (
                    "Type of business",
                    f.choice("Retail trade", "Restaurant", "Personal services", "Professional office"),
                ),
                ("Employees at this location", str(f.between(1, 40))),
                ("License no. (office use)", number),
            ),
            Heading("B. The applicant"),
            _fields(
                (f.choice("Applicant name", "Owner / applicant", "Applicant (print)"), f.applicant),
                ("Title", f.choice("Owner", "Managing member", "President")),
                ("E-mail address", f.email),
                ("Daytime phone", f.phone),
            ),
            Heading("C. Fee"),
            _grid(
                ("Item", "Amount"),
                ("Application processing", money(25)),
                ("Annual license", money(fee - 25)),
                ("Total license fee", money(fee)),
            ),
            _fields(("Date", us_date(f.filed))),
            "I declare under penalty of perjury that the statements above are true. The business license "
            "is valid for one calendar year and is not transferable to another owner or location.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "case_number": number,
            "amount": f"{fee}.00",
            "date": f.filed.isoformat(),
        },
        stems=(f"FL-20 {f.firm}", number, f"Business license {f.firm}"),
        author=f.applicant,
    )


@_template("business_license", "html csv json pdf")
def license_renewal(f: Facts) -> Draft:
    number = f"BL-{f.filed.year - 1 - 2000}-{f.number:04}"
    receipts = f.between(40_000, 900_000, 1_000)
    due = 50 + receipts * 0.0015
    return Draft(
        title=f"Business License Renewal {f.filed.year}",
        blocks=(
            Heading("License"),
            _fields(
                ("License number", number),
                ("Business name", f.firm),
                ("Business location", f.address),
                ("Gross receipts reported", money(receipts)),
                ("Renewal fee due", money(due)),
                ("Date received", f.filed.isoformat()),
            ),
            Heading("Responsible person"),
            _fields(("Applicant", f.applicant), ("Email", f.email), ("Phone", f.phone)),
            "The licensee confirms that ownership, trade name and activities have not changed since the "
            "last business license was issued. Renewals received after January 31 carry a penalty of 10 "
            "percent.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "case_number": number,
            "amount": f"{due:.2f}",
            "date": f.filed.isoformat(),
        },
        stems=(f"renewal_{number}", f"License renewal {f.firm}"),
    )


@_template("business_license", "rtf odt docx txt")
def vendor_license(f: Facts) -> Draft:
    fee = f.between(60, 240, 20)
    days = f.choice("Thursday to Sunday", "on weekdays", "during the summer market")
    return Draft(
        title="Mobile Food Vendor License Application",
        blocks=(
            "To be returned to Finance & Licensing, City Hall, first floor, with proof of insurance and the "
            "health inspection certificate of the vehicle.",
            _fields(
                ("Name of applicant", f.applicant),
                (
                    "Trade name",
                    f.choice("Taco Rocket", "The Rolling Crepe", "Noodle Wagon", "Smoke & Barrel"),
                ),
                ("Commissary address", f.address),
                ("E-mail", f.email),
                ("License fee enclosed", money(fee)),
                ("Application date", long_date(f.filed)),
            ),
            Heading("Places and hours"),
            f"I intend to vend {days} near {f.other_address} "
            "between 11:00 and 20:00. The truck is self-contained, carries 40 gallons of fresh water and "
            "uses propane for cooking.",
            "I understand that a business license does not permit vending within 150 feet of a restaurant, "
            "nor in residential zones after sunset.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "amount": f"{fee}.00",
            "date": f.filed.isoformat(),
        },
        stems=(f"Food truck license {f.applicant}", f"vendor application {f.filed:%Y%m%d}"),
        author=f.applicant,
    )


# City Clerk


def _records_wanted(f: Facts) -> str:
    return f.choice(
        "all police dispatch logs that mention Fairground Parkway between March 1 and May 31",
        "the contract with the towing company, its amendments and the invoices of the last two years",
        "every e-mail between the City Manager and the developer of the Depot Street garage",
        "inspection reports for the public swimming pool since it reopened",
        "the salary schedule of all employees above grade 12 and the overtime paid to them",
        "traffic counts and crash reports for the crossing of Second Avenue and Canal Street",
    )


@_template("foi_request", "eml txt docx odt")
def records_letter(f: Facts) -> Draft:
    return Draft(
        title=f.choice(
            "Freedom of Information request",
            "Public records request",
            "Request under the Freedom of Information Act",
        ),
        letterhead=False,
        blocks=(
            f"{long_date(f.filed)}",
            "Dear Records Officer,",
            f"Under the Freedom of Information Act I request copies of {_records_wanted(f)}.",
            "I prefer electronic copies. If any record is withheld in part, please release the rest and "
            "cite the exemption you rely on. If the cost of copying exceeds $25.00, let me know before "
            "you proceed.",
            "The statute allows five business days for a response; I look forward to hearing from you.",
            _fields(
                (f.choice("Requester", "Name", "Requested by", "Name of requester"), f.applicant),
                ("E-mail", f.email),
                ("Phone", f.phone),
            ),
        ),
        fields={"applicant_name": f.applicant, "email": f.email, "date": f.filed.isoformat()},
        stems=(f"FOIA {f.applicant}", "Public records request", f"FW_ records request {f.filed.isoformat()}"),
        author=f.applicant,
    )


@_template("foi_request", "pdf docx html json")
def records_form(f: Facts) -> Draft:
    number = f"FOI-{f.filed.year}-{f.number:04}"
    fee = f.between(5, 60) + 0.5
    return Draft(
        title="Request for Public Records",
        boxed=True,
        blocks=(
            "Office of the City Clerk, form CC-7. You need not give a reason for your request.",
            Heading("Requester"),
            _fields(
                ("Request no.", number),
                (f.choice("Requester name", "Applicant", "Name of requester"), f.applicant),
                ("Mailing address", f.address),
                ("E-mail", f.email),
                ("Date of request", us_date(f.filed)),
            ),
            Heading("Records requested"),
            f"I would like to {f.choice('inspect', 'receive copies of')} {_records_wanted(f)}.",
            _fields(("Deposit for copies", money(fee)), ("Response due", us_date(f.in_days(5, 7)))),
            "Records custodians must answer a freedom of information request, ask for an extension, or "
            "deny it in writing with the legal exemption.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "case_number": number,
            "amount": f"{fee:.2f}",
            "date": f.filed.isoformat(),
        },
        stems=(number, f"CC-7 {f.applicant}", f"records request {number}"),
        author=f.applicant,
    )


@_template("foi_request", "eml rtf md")
def reporter_request(f: Facts) -> Draft:
    subject = f.choice(
        "settlements paid since 2020",
        "body camera footage",
        "lead service line inventory",
        "use of the reserve fund",
    )
    paper = f.choice("Alder Falls Courier", "Valley Public Radio", "Riverside Examiner")
    return Draft(
        title=f"FOI request: {subject}",
        letterhead=False,
        blocks=(
            "Good morning,",
            f"I am a reporter with the {paper}. This is a freedom of information "
            f"request for public records, namely {_records_wanted(f)}.",
            "I ask for a waiver of all fees, as disclosure is in the public interest and the records will "
            "be used for reporting and not for a commercial purpose.",
            "Please confirm receipt by return mail.",
            "Kind regards,",
            _fields(("Requested by", f.applicant), ("Contact", f"{f.email}, {f.phone}")),
        ),
        fields={"applicant_name": f.applicant, "email": f.email},
        stems=("FOI request press", f"Courier records request {f.filed:%b %Y}", f"foi_{f.number}"),
        author=f.applicant,
    )


# Planning & Zoning


_RELIEF = (
    (
        "side yard setback",
        "The lot narrows to 38 feet at the street, so that a garage of ordinary width cannot keep the "
        "required side yard of eight feet.",
    ),
    (
        "front setback",
        "The neighboring porches stand twelve feet from the street line; the ordinance now asks for "
        "twenty-five.",
    ),
    (
        "lot coverage",
        "Coverage would rise from 34 to 39 percent, where the R-2 district allows 35 percent.",
    ),
    (
        "building height",
        "The ridge of the proposed dormer would be two feet above the district's limit of 32 feet.",
    ),
    (
        "off-street parking",
        "The historic storefront leaves no room for the six spaces that table 4-2 requires.",
    ),
)
"""What a variance is asked from, and the hardship that is pleaded."""


@_template("zoning_variance", "pdf docx odt")
def variance_application(f: Facts) -> Draft:
    number = f"ZV-{f.filed.year}-{f.number:03}"
    relief, hardship = f.random.choice(_RELIEF)
    fee = f.between(250, 750, 50)
    return Draft(
        title="Application for Zoning Variance",
        boxed=True,
        blocks=(
            "Zoning Board of Appeals, form PZ-3. File one original and eight copies 30 days before the hearing.",
            Heading("Applicant and property"),
            _fields(
                ("Case number", number),
                ("Date filed", us_date(f.filed)),
                (f.choice("Applicant", "Name of applicant", "Applicant / owner"), f.applicant),
                ("E-mail", f.email),
                (f.choice("Property address", "Subject property", "Address of property"), f.address),
                (f.choice("Parcel number", "Parcel ID", "Tax map parcel"), f.parcel),
                ("Zoning district", f.choice("R-1", "R-2", "RM-6", "C-1", "MX-2")),
                ("Filing fee", money(fee)),
            ),
            Heading("Variance requested"),
            f"The applicant seeks a variance from the {relief} requirement of the zoning ordinance.",
            Heading("Statement of hardship"),
            hardship,
            "The condition is peculiar to the parcel, was not created by the applicant, and relief would "
            "not alter the essential character of the neighborhood.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "parcel_number": f.parcel,
            "case_number": number,
            "amount": f"{fee}.00",
            "date": f.filed.isoformat(),
        },
        stems=(f"{number} application", f"Variance {f.address}", f"PZ-3 {f.applicant}"),
        author=f.applicant,
    )


@_template("zoning_variance", "pptx")
def hearing_slides(f: Facts) -> Draft:
    number = f"ZV-{f.filed.year}-{f.number:03}"
    relief, hardship = f.random.choice(_RELIEF)
    return Draft(
        title=f"Zoning Board of Appeals: variance hearing {number}",
        blocks=(
            Heading("The application"),
            _fields(
                ("Case no.", number),
                ("Applicant", f.applicant),
                ("Property address", f.address),
                ("Parcel", f.parcel),
                ("Filed", long_date(f.filed)),
            ),
            Heading("Variance requested"),
            f"Relief from the {relief} requirement of the zoning ordinance",
            hardship,
            Heading("Tests of the ordinance"),
            "Unique physical condition of the lot",
            "Hardship not self-created",
            "No substantial detriment to adjoining property",
            Heading("Staff recommendation"),
            f.choice("Approve with conditions", "Deny", "Continue to the next meeting of the board"),
        ),
        fields={
            "applicant_name": f.applicant,
            "address": f.address,
            "parcel_number": f.parcel,
            "case_number": number,
            "date": f.filed.isoformat(),
        },
        stems=(f"{number} hearing", f"ZBA presentation {f.address}", f"Slides variance {f.applicant}"),
        author=f.officer,
    )


@_template("zoning_variance", "docx pdf rtf")
def variance_report(f: Facts) -> Draft:
    number = f"ZV-{f.filed.year}-{f.number:03}"
    relief, hardship = f.random.choice(_RELIEF)
    return Draft(
        title="Staff Report to the Zoning Board of Appeals",
        blocks=(
            _fields(
                ("Case No.", number),
                ("Applicant", f.applicant),
                ("Location", f.address),
                ("APN", f.parcel),
                ("Application date", long_date(f.filed)),
                ("Prepared by", f"{f.officer}, Planner II"),
            ),
            Heading("Request"),
            f"A variance from the {relief} standard of the zoning ordinance, "
            f"section {f.between(3, 9)}.{f.between(1, 12)}.",
            Heading("Findings"),
            hardship,
            f"Notice was mailed to the owners of {f.between(9, 41)} parcels within 300 feet. The department "
            f"received {f.between(1, 6)} letters, most of them in support.",
            Heading("Recommendation"),
            "Staff recommends that the board grant the variance on condition that construction follows "
            "the site plan dated with this application.",
        ),
        fields={
            "applicant_name": f.applicant,
            "address": f.address,
            "parcel_number": f.parcel,
            "case_number": number,
            "date": f.filed.isoformat(),
        },
        stems=(f"{number} staff report", f"ZBA packet {f.filed:%B %Y}"),
        author=f.officer,
    )


@_template("zoning_variance", "eml html odt")
def variance_letter(f: Facts) -> Draft:
    relief, hardship = f.random.choice(_RELIEF)
    return Draft(
        title=f"Variance request, {f.address}",
        letterhead=False,
        blocks=(
            "Dear members of the Zoning Board,",
            f"We own the house at {f.address} and ask for a zoning variance from the {relief} rule.",
            hardship,
            "Both adjoining neighbors have seen the drawings and have no objection. We would be glad to "
            "present the plan at your next public hearing.",
            _fields(
                ("Applicant", f.applicant),
                ("Site address", f.address),
                ("Parcel no.", f.parcel),
                ("E-mail", f.email),
                ("Date", long_date(f.filed)),
            ),
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "parcel_number": f.parcel,
            "date": f.filed.isoformat(),
        },
        stems=(f"Variance request {f.address}", f"letter to zoning board {f.number}"),
        author=f.applicant,
    )


# Code Enforcement


_VIOLATIONS = (
    ("Tall grass and weeds", "Grass in the front yard is above the knee and rats nest near the shed."),
    (
        "Junk vehicle",
        "Two cars without plates have been on blocks in the driveway since spring, leaking oil.",
    ),
    ("Illegal dumping", "Mattresses, tires and bags of trash are piled up behind the fence along the alley."),
    ("Unsafe structure", "The porch roof sags and bricks have fallen from the chimney onto the sidewalk."),
    ("Work without permit", "A second story goes up on weekends; there is no permit card in the window."),
)


@_template("complaint", "html json csv pdf xlsx")
def complaint_form(f: Facts) -> Draft:
    number = f"CE-{f.filed.year}-{f.number:05}"
    problem, story = f.random.choice(_VIOLATIONS)
    asked = f.choice("twice", "in writing", "three weeks ago")
    return Draft(
        title="Code Violation Complaint Form",
        blocks=(
            Heading("Complaint"),
            _fields(
                ("Complaint number", number),
                ("Date filed", f.filed.isoformat()),
                ("Nature of complaint", problem),
                (f.choice("Address of violation", "Location of violation", "Property address"), f.address),
            ),
            Heading("Complainant"),
            _fields(("Complainant name", f.applicant), ("Email", f.email), ("Phone", f.phone)),
            f"Description: {story} The owner was asked to take care of it {asked}, and nothing "
            "has happened since.",
            f"Assigned to inspector {f.officer}. The property owner has ten days from the notice of violation "
            "to correct it.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "case_number": number,
            "date": f.filed.isoformat(),
        },
        stems=(number, f"complaint {f.address}", f"311-{f.number:06}"),
    )


@_template("complaint", "eml txt rtf")
def noise_complaint(f: Facts) -> Draft:
    noise = f.choice(
        "amplified music", "three dogs that bark through the night", "a leaf blower before six in the morning"
    )
    return Draft(
        title=f.choice(
            f"Noise complaint - {f.address}",
            "Complaint about loud music every weekend",
            "Barking dogs, again",
        ),
        letterhead=False,
        blocks=(
            "To whom it may concern,",
            f"I want to file a complaint about {noise} "
            f"next door. It has gone on since {long_date(f.filed.replace(day=1))} and violates the noise ordinance.",
            f"Location: {f.address}",
            "I have spoken with the neighbors more than once and called the non-emergency line, but no "
            "officer came. Please send code enforcement on a Friday or Saturday night and tell me what "
            "becomes of this nuisance.",
            "Thank you,",
            f"{f.applicant}",
            f"{f.phone}, {f.email}",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
        },
        stems=(
            f"FW_ noise complaint {f.address}",
            f"Complaint {f.applicant}",
            f"noise {f.filed.isoformat()}",
        ),
        author=f.applicant,
    )


@_template("complaint", "eml html txt")
def gas_leak(f: Facts) -> Draft:
    number = f"CE-{f.filed.year}-{f.number:05}"
    told = f.choice("yesterday", "two days ago", "this morning")
    return Draft(
        title=f"URGENT: gas leak reported at {f.address}",
        urgent=True,
        letterhead=False,
        blocks=(
            "EMERGENCY - complaint taken by telephone and forwarded to Code Enforcement and the Fire Department.",
            _fields(
                ("Complaint no.", number),
                ("Address", f.address),
                ("Complainant", f.applicant),
                ("Callback", f.phone),
                ("Received", long_date(f.filed)),
            ),
            "Caller smells gas in the stairwell and the basement. The landlord was told about the gas leak "
            f"{told} and did nothing. An elderly tenant on the ground floor feels dizzy. There are "
            f"{f.between(4, 18)} households in the building.",
            "Immediate danger to life: inspect at once, shut off the supply and evacuate if the reading "
            "is confirmed. The owner has an open code violation for the same boiler.",
        ),
        fields={
            "applicant_name": f.applicant,
            "address": f.address,
            "case_number": number,
            "date": f.filed.isoformat(),
        },
        stems=(f"URGENT gas leak {f.address}", f"gas smell {f.filed.isoformat()}"),
        author="Fire Dispatch",
        mail_from="dispatch@alderfalls.example.org",
    )


@_template("complaint", "docx pdf odt")
def housing_complaint(f: Facts) -> Draft:
    defect = f.choice(
        "There has been no heat since the first frost.",
        "Black mold covers the bathroom ceiling.",
        "The rear stairs have rotted through.",
        "Bedbugs have spread over two floors.",
    )
    return Draft(
        title="Complaint about the condition of a rental property",
        letterhead=False,
        blocks=(
            f"{long_date(f.filed)}",
            "Code Enforcement Division, City Hall",
            f"I rent an apartment and write to complain about its condition. {defect} "
            f"My landlord, {f.other}, promised repairs and has not kept one of the appointments.",
            _fields(
                ("Complainant", f.applicant),
                ("Rental property address", f.address),
                ("Owner", f.other),
                ("E-mail", f.email),
            ),
            "I believe this violates the property maintenance code and ask for an inspection. Please do "
            "not give my name to the owner before the violation notice has been served.",
            "Sincerely,",
            f.applicant,
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "date": f.filed.isoformat(),
        },
        stems=(f"Housing complaint {f.address}", f"Letter from tenant {f.applicant}"),
        author=f.applicant,
    )


# Human Services


@_template("benefits_application", "pdf docx odt")
def rental_assistance(f: Facts) -> Draft:
    number = f"HS-{f.filed.year}-{f.number:05}"
    amount = f.between(450, 3_600, 50)
    return Draft(
        title="Application for Emergency Rental Assistance",
        boxed=True,
        blocks=(
            "Department of Human Services, form HS-12. All information is confidential.",
            Heading("Head of household"),
            _fields(
                ("Case no.", number),
                (f.choice("Applicant name", "Name of applicant", "Applicant"), f.applicant),
                ("Date of birth", us_date(f.filed.replace(year=f.filed.year - f.between(21, 78), day=11))),
                ("Home address", f.address),
                ("E-mail", f.email),
                ("Household size", str(f.between(1, 7))),
            ),
            Heading("Income and rent"),
            _grid(
                ("Source", "Per month"),
                ("Wages", money(f.between(800, 2_400, 10))),
                ("Child support", money(f.between(0, 400, 10))),
                ("Rent", money(f.between(900, 1_900, 10))),
            ),
            _fields(("Assistance requested", money(amount)), ("Date of application", us_date(f.filed))),
            "The household fell behind after a reduction of working hours. Pay stubs, the lease and the "
            "landlord's ledger are attached. I authorize the caseworker to verify eligibility for this "
            "benefit with my employer.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "case_number": number,
            "amount": f"{amount}.00",
            "date": f.filed.isoformat(),
        },
        stems=(f"HS-12 {f.applicant}", number, f"rental assistance {f.applicant}"),
        author=f.applicant,
    )


@_template("benefits_application", "html csv json pdf")
def food_benefits(f: Facts) -> Draft:
    number = f"HS-{f.filed.year}-{f.number:05}"
    program = f.choice(
        "Food assistance (SNAP)", "Senior meal program", "Child care subsidy", "Transit benefit"
    )
    language = f.choice("no", "no", "Spanish", "Somali")
    return Draft(
        title="Online Application for Public Benefits",
        blocks=(
            Heading("Application"),
            _fields(
                ("Confirmation number", number),
                ("Program", program),
                ("Date submitted", f.filed.isoformat()),
            ),
            Heading("Applicant"),
            _fields(
                ("Applicant name", f.applicant),
                ("Address", f.address),
                ("Email", f.email),
                ("Phone", f.phone),
                ("People in household", str(f.between(1, 8))),
                ("Monthly household income", money(f.between(600, 3_100, 5))),
            ),
            f"I apply for benefits under the program named above. An eligibility interview by telephone is "
            f"requested for {long_date(f.in_days(6, 15))}. Interpreter needed: {language}.",
        ),
        fields={
            "applicant_name": f.applicant,
            "email": f.email,
            "address": f.address,
            "case_number": number,
            "date": f.filed.isoformat(),
        },
        stems=(f"benefits_{number}", f"application {f.applicant} {f.filed.isoformat()}"),
    )


@_template("benefits_application", "docx rtf txt")
def utility_assistance(f: Facts) -> Draft:
    arrears = f.between(180, 1_450, 5)
    income = f.choice("disability benefits", "unemployment benefits", "a small pension")
    member = f.choice("an infant", "a person on oxygen", "two children under six")
    return Draft(
        title="Energy Assistance Benefit Application - shutoff notice received",
        urgent=True,
        blocks=(
            "URGENT: the utility has announced that service will be disconnected.",
            _fields(
                ("Name of applicant", f.applicant),
                ("Service address", f.address),
                ("Telephone", f.phone),
                ("Past due amount", money(arrears)),
                ("Date of application", long_date(f.filed)),
                ("Disconnection date", long_date(f.in_days(2, 6))),
            ),
            f"The household receives {income} and includes "
            f"{member}. The applicant asks for emergency assistance from the heating "
            "fund and has not received energy assistance this year.",
            "Eligibility: household income below 60 percent of the state median. Proof of income attached.",
        ),
        fields={
            "applicant_name": f.applicant,
            "address": f.address,
            "amount": f"{arrears}.00",
            "date": f.filed.isoformat(),
        },
        stems=(f"Shutoff {f.applicant}", f"energy assistance {f.filed:%m-%d-%y}", f"LIHEAP {f.applicant}"),
        author=f.applicant,
    )


# Municipal Court


@_template("court_filing", "pdf docx rtf")
def eviction(f: Facts) -> Draft:
    number = f"LT-{f.filed.year}-{f.number:04}"
    rent = f.between(900, 5_400, 25)
    courtroom = f.choice("A", "B", "2")
    return Draft(
        title="Complaint for Possession and Notice of Eviction Hearing",
        urgent=True,
        blocks=(
            f"IN THE MUNICIPAL COURT OF THE {CITY.upper()}",
            f"{f.firm}, Plaintiff, v. {f.applicant}, Defendant",
            _fields(
                (f.choice("Case No.", "Docket No.", "Case number"), number),
                ("Filed", long_date(f.filed)),
                ("Premises", f.address),
                ("Rent claimed", money(rent)),
            ),
            "Plaintiff is the owner of the premises described above and alleges that Defendant has failed "
            "to pay rent for two months after due notice to quit.",
            f"YOU ARE HEREBY SUMMONED to an eviction hearing on {long_date(f.in_days(3, 7))} at 9:30 a.m. in Courtroom "
            f"{courtroom}. If you do not appear, judgment for possession may be entered against you.",
            f"WHEREFORE, Plaintiff demands judgment for possession, for unpaid rent of {money(rent)} and the "
            "costs of this action.",
            f"Attorney for Plaintiff: {f.other}, {f.phone}",
        ),
        fields={
            "address": f.address,
            "case_number": number,
            "amount": f"{rent}.00",
            "date": f.filed.isoformat(),
        },
        stems=(f"{number} complaint and summons", f"Eviction hearing {number}"),
        author=f.other,
    )


@_template("court_filing", "pdf odt docx")
def motion(f: Facts) -> Draft:
    number = f"{f.filed:%y}-TR-{f.number:05}"
    return Draft(
        title=f.choice("Motion to Continue", "Motion to Dismiss", "Motion for Discovery"),
        letterhead=False,
        blocks=(
            f"MUNICIPAL COURT, {CITY.upper()}",
            f"{CITY}, Plaintiff, vs. {f.applicant}, Defendant",
            _fields(
                (f.choice("Docket number", "Cause No.", "Case No."), number), ("Date filed", us_date(f.filed))
            ),
            "COMES NOW the Defendant, by and through undersigned counsel, and moves this Honorable Court "
            f"as follows: the hearing is set for {long_date(f.in_days(14, 40))}; counsel is in another court on that "
            "day; the prosecution does not oppose the motion.",
            "WHEREFORE the Defendant prays that the Court grant this motion.",
            Heading("Certificate of service"),
            f"I certify that a copy of this motion was served on the City Prosecutor on {long_date(f.filed)}.",
            f"/s/ {f.other}, Attorney for Defendant",
            f"{f.phone} - {f.email}",
        ),
        fields={"case_number": number, "email": f.email, "date": f.filed.isoformat()},
        stems=(f"{number} motion", f"Motion {f.applicant}"),
        author=f.other,
    )


@_template("court_filing", "html txt rtf docx")
def small_claim(f: Facts) -> Draft:
    number = f"SC-{f.filed.year}-{f.number:05}"
    claim = f.between(150, 4_900, 10)
    reason = f.choice(
        "a deposit that was not returned",
        "defective repair work",
        "damage to a parked vehicle",
        "goods paid for and never delivered",
    )
    return Draft(
        title="Small Claims Statement and Summons",
        blocks=(
            _fields(
                ("Docket no.", number),
                ("Plaintiff", f.applicant),
                ("Plaintiff's address", f.address),
                ("Defendant", f.firm),
                ("Amount claimed", money(claim)),
                ("Date filed", long_date(f.filed)),
            ),
            Heading("Statement of claim"),
            f"Defendant owes Plaintiff the amount above because of {reason}. "
            "Plaintiff has demanded payment and Defendant has refused.",
            Heading("Summons"),
            f"The court orders the Defendant to appear on {long_date(f.in_days(25, 50))} at 1:30 p.m. before the "
            "presiding judge. Bring witnesses and papers. Judgment may be entered by default.",
        ),
        fields={
            "applicant_name": f.applicant,
            "address": f.address,
            "case_number": number,
            "amount": f"{claim}.00",
            "date": f.filed.isoformat(),
        },
        stems=(f"{number} statement", f"small claims {f.applicant}"),
        author=f.applicant,
    )


# Everything else


@_template("other", "pdf html md eml")
def newsletter(f: Facts) -> Draft:
    news = f.some(
        4,
        "Leaf pickup starts on the north side. Rake leaves to the curb, not into the gutter.",
        "The library stays open until nine on Wednesdays, and story time moves to the garden room.",
        "The swimming pool reopens with new lockers; day passes cost the same as last year.",
        "Crews resurface Canal Street from the bridge to the depot. Expect one lane for two weeks.",
        "Volunteers planted 140 trees along Alder Creek. Thank you to everybody who brought a shovel.",
        "The farmers' market returns to the fairground with forty stalls and live music.",
    )
    blocks: list[Block] = [f"News from City Hall, {f.filed:%B %Y}"]
    for headline, story in zip(
        f.some(4, "Around town", "Good to know", "Parks", "Dates", "Streets"), news, strict=True
    ):
        blocks += [Heading(headline), story]
    return Draft(
        title=f"The Falls Bulletin, {f.filed:%B %Y}",
        blocks=(*blocks, "Questions? Call the front desk at 555-0100."),
        letterhead=False,
        fields={},
        stems=(f"Falls Bulletin {f.filed:%B %Y}", f"newsletter_{f.filed:%Y_%m}"),
        author="Communications Office",
        mail_from="news@alderfalls.example.org",
    )


@_template("other", "docx odt txt md")
def minutes(f: Facts) -> Draft:
    body = f.choice("City Council", "Parks Commission", "Library Board")
    return Draft(
        title=f"Minutes of the Regular Meeting of the {body}",
        blocks=(
            f"{long_date(f.filed)}, 7:00 p.m., Council Chambers",
            Heading("1. Call to order"),
            f"The chair called the meeting to order. Present: {f.applicant}, {f.other}, and three other members. "
            "A quorum was declared.",
            Heading("2. Approval of the minutes"),
            f"Moved by {f.other}, seconded, carried unanimously.",
            Heading("3. Reports"),
            f"Staff reported {f.between(12, 60)} building permits issued last month and answered a question about the "
            "snow removal contract. The finance director presented the quarterly statement.",
            Heading("4. Public comment"),
            f"{f.between(2, 9)} residents spoke, most of them about the hours of the skate park.",
            Heading("5. Adjournment"),
            "There being no further business, the meeting adjourned at 8:50 p.m.",
        ),
        letterhead=False,
        fields={},
        stems=(f"Minutes {f.filed.isoformat()}", f"{f.filed:%Y-%m-%d} minutes DRAFT", "minutes final FINAL"),
        author=f.officer,
    )


@_template("other", "xlsx pdf csv")
def invoice(f: Facts) -> Draft:
    hours, rate = f.between(4, 60), f.between(45, 140, 5)
    total = hours * rate + 85
    return Draft(
        title=f"Invoice {f.filed:%y}{f.number:04}",
        letterhead=False,
        blocks=(
            _fields(
                ("From", f.firm),
                ("Bill to", f"{CITY}, Accounts Payable"),
                ("Invoice date", long_date(f.filed)),
                ("Terms", "Net 30"),
            ),
            _grid(
                ("Description", "Quantity", "Unit price", "Total"),
                (
                    f.choice("Window cleaning, City Hall", "Toner cartridges", "Mowing, Creek Park"),
                    str(hours),
                    money(rate),
                    money(hours * rate),
                ),
                ("Delivery", "1", money(85), money(85)),
            ),
            _fields(("Amount due", money(total))),
            "Please remit within 30 days. Thank you for your business.",
        ),
        fields={"amount": f"{total}.00", "date": f.filed.isoformat()},
        stems=(f"Invoice {f.filed:%y}{f.number:04} {f.firm}", f"INV{f.number:06}"),
        author=f.firm,
    )


@_template("other", "pptx")
def training_slides(f: Facts) -> Draft:
    return Draft(
        title=f.choice(
            "Welcome to City Hall: your first week",
            "Phishing and how to spot it",
            "Winter driving for city crews",
        ),
        blocks=(
            Heading("Agenda"),
            "Introductions and coffee",
            "What we expect of each other",
            "Where to find help",
            Heading("Remember"),
            "Ask when in doubt",
            f"The help desk is at {f.phone}",
        ),
        letterhead=False,
        fields={},
        stems=(f"Training {f.filed:%B %Y}", f"staff day {f.filed.year}"),
        author=f.officer,
    )
