//! The identities of the two ends: certificates made for one run, pinned by their SHA-256.
//!
//! No name, date or authority is checked. A peer is authenticated when its certificate has the fingerprint that came over SSH,
//! and when it signs the TLS 1.3 handshake with the key of that certificate.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::protocol::hex;

/// The cryptography provider of both ends. AES-128 comes first, as in QUIC's own initial packets (RFC 9001, section 5.2): it
/// takes a fifth less time than AES-256, which rustls prefers.
#[must_use]
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// SHA-256 of a certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(#[serde(with = "hex")] [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }

    /// The fingerprint of a connection's peer. None when the peer sent no certificate.
    #[must_use]
    pub fn of_peer(connection: &quinn::Connection) -> Option<Self> {
        let chain = connection
            .peer_identity()?
            .downcast::<Vec<CertificateDer<'static>>>()
            .ok()?;
        chain.first().map(Self::of)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A certificate could not be made: the system gave no randomness.
pub use rcgen::Error as GenerateError;

/// A certificate and its private key, made for one agent or one session of a client.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Identity {
    /// A new identity (ECDSA P-256, self-signed).
    ///
    /// # Errors
    /// Only when the system gives no randomness.
    pub fn generate() -> Result<Self, GenerateError> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
        Ok(Self {
            certificate: made.cert.der().clone(),
            key: PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()),
        })
    }

    /// The certificate (DER) and its private key (PKCS#8). Secret: only for a file that nobody else can read.
    #[must_use]
    pub fn parts(&self) -> (&[u8], &[u8]) {
        (&self.certificate, self.key.secret_pkcs8_der())
    }

    /// An identity from its [parts](Self::parts). None when TLS could not sign with them.
    #[must_use]
    pub fn from_parts(certificate: Vec<u8>, key: Vec<u8>) -> Option<Self> {
        let identity = Self {
            certificate: certificate.into(),
            key: key.into(),
        };
        identity.resolver().is_ok().then_some(identity)
    }

    /// The fingerprint that the peer pins.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The certificate and signing key for TLS, on either side.
    pub(crate) fn resolver(&self) -> Result<Arc<SingleCertAndKey>, Error> {
        let key = PrivateKeyDer::Pkcs8(self.key.clone_key());
        let key = provider().key_provider.load_private_key(key)?;
        Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
            vec![self.certificate.clone()],
            key,
        ))))
    }
}

#[cfg(test)]
impl Identity {
    /// The certificate of `owner` with another key: what an attacker who copied the certificate has.
    pub(crate) fn with_key_of_another(self, owner: &Self) -> Self {
        Self {
            certificate: owner.certificate.clone(),
            key: self.key,
        }
    }
}

/// The name in every certificate and SNI. It has no meaning; TLS requires one.
pub(crate) const SERVER_NAME: &str = "jq";

/// Accepts the agent whose fingerprint came over SSH, and no other.
#[derive(Debug)]
pub(crate) struct PinnedAgent {
    pin: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedAgent {
    pub(crate) fn new(pin: Fingerprint) -> Self {
        Self {
            pin,
            algorithms: provider().signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for PinnedAgent {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Fingerprint::of(end_entity) == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not supported".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        agent: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, agent, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The clients that an agent admits: those whose fingerprints came over SSH. Shared; changes take effect at once.
#[derive(Clone, Debug, Default)]
pub struct AllowedClients(Arc<RwLock<VecDeque<Fingerprint>>>);

impl AllowedClients {
    /// Admits a client from now on. When there are 256 clients already, the one admitted first is dropped.
    pub fn allow(&self, client: Fingerprint) {
        let mut clients = self.0.write().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|other| *other != client);
        if clients.len() == MOST_CLIENTS {
            clients.pop_front();
        }
        clients.push_back(client);
    }

    /// All admitted clients, the one admitted last at the end.
    #[must_use]
    pub fn all(&self) -> Vec<Fingerprint> {
        let clients = self.0.read().unwrap_or_else(PoisonError::into_inner);
        clients.iter().copied().collect()
    }

    /// Whether this client may connect.
    #[must_use]
    pub(crate) fn contains(&self, client: &Fingerprint) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(client)
    }
}

/// Most clients that are admitted.
pub(crate) const MOST_CLIENTS: usize = 256;

/// Accepts the clients of an [`AllowedClients`], and no other.
#[derive(Debug)]
pub(crate) struct PinnedClients {
    allowed: AllowedClients,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedClients {
    pub(crate) fn new(allowed: AllowedClients) -> Self {
        Self {
            allowed,
            algorithms: provider().signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for PinnedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.allowed.contains(&Fingerprint::of(end_entity)) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not supported".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        client: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, client, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
