"""The key of an Entra application, and what the console's sources may make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.addresses import EVERYWHERE, Reach, read_networks
from connectors.base import ConfigurationError
from connectors.sharepoint import SharePoint
from sandbox.sharepoint import SimulatedSharePoint

LOOPBACK = read_networks("127.0.0.0/8")


def with_key(site: SimulatedSharePoint, certificate: str) -> SharePoint:
    return SharePoint(
        site_url=site.site_url,
        tenant_id=site.tenant_id,
        client_id=site.client_id,
        certificate=certificate,
        authority_url=site.url("login"),
        graph_url=site.url(),
        ca_file=str(site.ca_file),
    )


def test_a_source_of_the_console_names_the_file_of_a_key_in_the_allowed_folder_only(tmp_path: Path) -> None:
    with SimulatedSharePoint() as site:
        assert site.ca_file is not None
        folder = site.ca_file.parent
        key = site.private_key + site.certificate
        outside = tmp_path / "key.pem"
        outside.write_text(key)
        with pytest.raises(ConfigurationError, match=r"certificate: .*CITYSORT_ALLOWED_FOLDER") as raised:
            with_key(site, str(outside)).keep_to(Reach(LOOPBACK, folder))
        assert str(outside) not in str(raised.value)
        assert site.requests == {}
        with_key(site, str(outside)).keep_to(EVERYWHERE)
        inside = folder / "key.pem"
        inside.write_text(key)
        for certificate in (str(inside), key):
            connector = with_key(site, certificate)
            connector.keep_to(Reach(LOOPBACK, folder))
            ok, message = connector.test_connection()
            assert ok, message
