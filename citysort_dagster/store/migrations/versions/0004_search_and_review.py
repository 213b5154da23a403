"""The index of words by which documents are found, and what people decided on documents"""

import sqlalchemy as sa
from alembic import op

from citysort_dagster.store.document_words import remember_words, words_of_documents

revision = "0004"
down_revision = "0003"

BATCH = 1_000


def upgrade() -> None:
    op.add_column("documents", sa.Column("decision", sa.JSON(), nullable=True))
    op.create_index("documents_by_source_import", "documents", ["source", "imported_at", "id"])
    op.create_index("documents_by_status_import", "documents", ["status", "imported_at", "id"])
    connection = op.get_bind()
    for statement in POSTGRESQL if connection.dialect.name == "postgresql" else SQLITE:
        op.execute(statement)
    index_texts(connection)


POSTGRESQL = (
    """
    CREATE TABLE document_words (
        document_id VARCHAR PRIMARY KEY REFERENCES documents (id),
        words TSVECTOR NOT NULL
    )
    """,
    "CREATE INDEX document_words_by_word ON document_words USING gin (words)",
)

# https://www.sqlite.org/fts5.html#external_content_tables; the words are prepared, so that the
# plainest tokenizer, which takes all that is not ASCII for a letter, splits them at spaces only.
SQLITE = (
    """
    CREATE TABLE document_words (
        number INTEGER PRIMARY KEY,
        document_id VARCHAR NOT NULL UNIQUE REFERENCES documents (id),
        words VARCHAR NOT NULL
    )
    """,
    """
    CREATE VIRTUAL TABLE document_words_index USING fts5 (
        words, content = 'document_words', content_rowid = 'number', detail = none, columnsize = 0,
        tokenize = 'ascii'
    )
    """,
    """
    CREATE TRIGGER document_words_added AFTER INSERT ON document_words BEGIN
        INSERT INTO document_words_index (rowid, words) VALUES (new.number, new.words);
    END
    """,
    """
    CREATE TRIGGER document_words_removed AFTER DELETE ON document_words BEGIN
        INSERT INTO document_words_index (document_words_index, rowid, words)
        VALUES ('delete', old.number, old.words);
    END
    """,
)


def index_texts(connection: sa.Connection) -> None:
    """Indexes the texts that are there already."""
    texts = sa.table("document_texts", sa.column("document_id"), sa.column("text"))
    after = ""
    while True:
        batch = connection.execute(
            sa.select(texts.c.document_id, texts.c.text)
            .where(texts.c.document_id > after)
            .order_by(texts.c.document_id)
            .limit(BATCH)
        ).all()
        if not batch:
            return
        words = words_of_documents(connection, {row.document_id: row.text for row in batch})
        remember_words(connection, words)
        after = batch[-1].document_id
