//! What went wrong with TLS, in words that say what to do. The causes come through several
//! libraries as text only, so it is the text that is looked at.

use tonic::Status;

use super::plain_text::SPEAKS_TLS;
use crate::error::{Error, chain};

/// What the answer of `whom` means, or that there was none.
pub fn error_of(status: Status, whom: &str) -> Error {
    explain(&status, whom).unwrap_or_else(|| Error::from(status))
}

/// Says what is wrong between us and `whom`, when TLS is what is wrong.
pub fn explain(status: &Status, whom: &str) -> Option<Error> {
    // What never was an answer carries its cause.
    let cause = std::error::Error::source(status)?;
    explain_text(&chain(cause), whom)
}

fn explain_text(text: &str, whom: &str) -> Option<Error> {
    let says = |part: &str| text.contains(part);
    let alert = |name: &str| says(&format!("received fatal alert: {name}"));
    let explained = |message: &str, hint: &str| Some(Error::unavailable(message).hint(hint));
    if says(SPEAKS_TLS) {
        return explained(
            &format!("{whom} speaks TLS"),
            "Use https:// in its address.",
        );
    }
    if says("InvalidContentType") || says("corrupt message") {
        return explained(
            &format!("{whom} does not speak TLS"),
            "Use http:// in its address, or give it a certificate (tls.cert_file).",
        );
    }
    if alert("CertificateRequired") {
        return explained(
            &format!("{whom} demands a certificate of whoever calls"),
            "Set tls.cert_file and tls.key_file (--tls-cert-file, --tls-key-file).",
        );
    }
    if alert("CertificateExpired") {
        return explained(
            &format!("{whom} refuses our certificate, which has expired"),
            "Renew the certificate in tls.cert_file.",
        );
    }
    if alert("UnknownCA") || alert("UnknownCa") || alert("DecryptError") {
        return explained(
            &format!("{whom} refuses our certificate, whose authority it does not know"),
            "The certificate in tls.cert_file must come from an authority in its tls.ca_file.",
        );
    }
    if alert("BadCertificate") || alert("UnsupportedCertificate") || alert("CertificateUnknown") {
        return explained(
            &format!("{whom} refuses our certificate"),
            "See what is in tls.cert_file: openssl x509 -noout -text -in FILE.",
        );
    }
    if alert("NoApplicationProtocol") {
        return explained(
            &format!("{whom} speaks TLS, but not gRPC"),
            "Is that its gRPC port?",
        );
    }
    if says("invalid peer certificate") {
        return Some(unacceptable(text, whom));
    }
    None
}

/// What we do not like about the other's certificate.
fn unacceptable(text: &str, whom: &str) -> Error {
    let says = |part: &str| text.contains(part);
    let (why, hint) = if says("UnknownIssuer") || says("BadSignature") {
        (
            "comes from an authority that is not known here",
            "Set tls.ca_file (--tls-ca-file) to the certificate of the authority that made it.",
        )
    } else if says("xpired") {
        ("has expired", "Renew it there.")
    } else if says("not valid yet") || says("NotValidYet") {
        ("is not valid yet", "Compare the clocks.")
    } else if says("not valid for") || says("NotValidForName") {
        (
            "is not for that name",
            "Use a name or address that is in the certificate, or make one for this name.",
        )
    } else {
        (
            "is not acceptable",
            "See openssl s_client -connect HOST:PORT.",
        )
    };
    let detail = text
        .split_once("invalid peer certificate: ")
        .map_or(text, |(_, detail)| detail);
    Error::unavailable(format!("the certificate of {whom} {why} ({detail})")).hint(hint)
}
