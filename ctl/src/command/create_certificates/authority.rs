//! The private authority, and what it signs.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
};
use seawall_common::{
    Error,
    tls::{Identity, Role},
};
use time::OffsetDateTime;
use x509_parser::pem::parse_x509_pem;

use super::files::{self, Pair};

const AUTHORITY: &str = "ca";
const AUTHORITY_VALID_FOR_S: i64 = 10 * 365 * 24 * 3600;
/// Clocks differ: a certificate is good from a little while ago.
const BEFORE_S: i64 = 3600;

/// One certificate that was asked for.
pub struct Wanted {
    pub identity: Identity,
    /// By which others reach it; none when nobody does.
    pub hosts: Vec<String>,
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub expires_unix_s: i64,
}

impl Authority {
    /// The one in the directory, or a new one; whether it is new.
    pub fn open_or_make(directory: &Path, now_unix_s: i64) -> Result<(Self, bool), Error> {
        match files::read(directory, AUTHORITY)? {
            Some(pair) => Ok((Self::open(&pair, now_unix_s)?, false)),
            None => Ok((Self::make(directory, now_unix_s)?, true)),
        }
    }

    fn open(pair: &Pair, now_unix_s: i64) -> Result<Self, Error> {
        let unusable =
            |why: &str| Error::invalid(format!("ca.crt or ca.key cannot be used: {why}"));
        let key = KeyPair::from_pem(&pair.key).map_err(|e| unusable(&e.to_string()))?;
        let (_, pem) =
            parse_x509_pem(pair.certificate.as_bytes()).map_err(|e| unusable(&e.to_string()))?;
        let parsed = pem.parse_x509().map_err(|e| unusable(&e.to_string()))?;
        if !parsed.is_ca() {
            return Err(unusable("ca.crt is not the certificate of an authority"));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(unusable("ca.key is not the key of ca.crt"));
        }
        let expires_unix_s = parsed.validity().not_after.timestamp();
        if expires_unix_s <= now_unix_s {
            return Err(unusable("the authority has expired")
                .hint("Make a new one in another --directory, and certificates of it for all."));
        }
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key);
        Ok(Self {
            issuer: issuer.map_err(|e| unusable(&e.to_string()))?,
            expires_unix_s,
        })
    }

    fn make(directory: &Path, now_unix_s: i64) -> Result<Self, Error> {
        let expires_unix_s = now_unix_s.saturating_add(AUTHORITY_VALID_FOR_S);
        let mut params = params("Seawall authority", now_unix_s, expires_unix_s)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(|e| defect(&e))?;
        let pair = Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        files::put_new(directory, AUTHORITY, &pair)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            expires_unix_s,
        })
    }

    pub fn issue(
        &self,
        wanted: &Wanted,
        now_unix_s: i64,
        expires_unix_s: i64,
    ) -> Result<Pair, Error> {
        let identity = &wanted.identity;
        let mut params = params(&identity.to_string(), now_unix_s, expires_unix_s)?;
        for host in &wanted.hosts {
            params.subject_alt_names.push(host_name(host)?);
        }
        let uri = identity.uri().try_into().map_err(|e| defect(&e))?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A coordinator calls agents and other members, an agent calls coordinators.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if matches!(identity.role, Role::Coordinator | Role::Agent) {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let key = new_key()?;
        let certificate = params.signed_by(&key, &self.issuer);
        Ok(Pair {
            certificate: certificate.map_err(|e| defect(&e))?.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn host_name(host: &str) -> Result<SanType, Error> {
    if let Ok(address) = host.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let malformed = |_| Error::invalid(format!("{host:?} is neither a name nor an address"));
    Ok(SanType::DnsName(host.try_into().map_err(malformed)?))
}

fn params(name: &str, now_unix_s: i64, expires_unix_s: i64) -> Result<CertificateParams, Error> {
    let moment = |unix_s: i64| {
        OffsetDateTime::from_unix_timestamp(unix_s).map_err(|_| {
            Error::invalid("certificates cannot be valid for so long")
                .hint("Give a shorter --valid-for.")
        })
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Seawall");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(now_unix_s.saturating_sub(BEFORE_S))?;
    params.not_after = moment(expires_unix_s)?;
    Ok(params)
}

fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(|e| defect(&e))
}

fn defect(error: &rcgen::Error) -> Error {
    Error::internal(format!("cannot make a certificate: {error}"))
}
