"""TLS as a client: the settings that every source which connects to something shares."""

from __future__ import annotations

import ssl
from pathlib import Path

from pydantic import Field

from ninefold.ground.errors import ConfigError
from ninefold.plugin import Strict


class ClientTls(Strict):
    """How the other side is checked, and who we are there."""

    enabled: bool = Field(False, description="Speak TLS.")
    ca: Path | None = Field(None, description="PEM file of the authorities to trust; the system's by default.")
    certificate: Path | None = Field(None, description="PEM file of our own certificate, where the other side asks for one.")
    key: Path | None = Field(None, description="PEM file of its key, if it is not in the same file.")
    verify: bool = Field(True, description="Check the other side's certificate and name; switch off only to find a mistake.")

    def context(self, where: str) -> ssl.SSLContext | None:
        """The context, None when TLS is off; `where` is the configuration's path for messages.

        Raises:
            ConfigError: a file cannot be read or is no certificate.
        """
        if not self.enabled:
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{where}: a certificate or key cannot be used: {error}") from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
