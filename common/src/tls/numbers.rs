//! Numbers for Prometheus: how long the certificate is good for, how many connections there are.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::{Tls, listener::ConnectionNumbers};

/// Register it with [`prometheus_client::registry::Registry::register_collector`].
pub struct TlsNumbers {
    tls: Tls,
    grpc: ConnectionNumbers,
}

impl TlsNumbers {
    pub fn new(tls: Tls, grpc: ConnectionNumbers) -> Self {
        Self { tls, grpc }
    }
}

impl fmt::Debug for TlsNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsNumbers")
    }
}

impl Collector for TlsNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(expires_unix_s) = self.tls.certificate_expires_unix_s() {
            let expires = ConstGauge::new(expires_unix_s);
            let name = "tls_certificate_expires_timestamp_seconds";
            let help = "When this program's own certificate ends";
            expires.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                expires.metric_type(),
            )?)?;
        }
        let open = ConstGauge::new(i64::try_from(self.grpc.open()).unwrap_or(i64::MAX));
        let help = "Connections to the gRPC listener";
        open.encode(encoder.encode_descriptor(
            "grpc_connections",
            help,
            None,
            open.metric_type(),
        )?)?;
        let refused = ConstCounter::new(self.grpc.refused());
        let help = "Connections to the gRPC listener that were closed because there were too many";
        let name = "grpc_connections_refused";
        refused.encode(encoder.encode_descriptor(name, help, None, refused.metric_type())?)
    }
}
