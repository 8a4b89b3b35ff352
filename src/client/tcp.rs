//! Connections over TCP, through the transport's handshake.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::transport::dial::{DialError as TransportError, dial_client};
use crate::transport::{ClientHello, RefusalCode};
use crate::types::ClusterId;

use super::link::{Link, LinkInfo};
use super::routes::{DialError, Dialer};

/// Dials nodes over TCP.
pub(crate) struct TcpDialer;

impl Dialer for TcpDialer {
    fn dial(
        &self,
        address: String,
        client: u128,
        cluster: Option<ClusterId>,
    ) -> BoxFuture<'static, Result<Link, DialError>> {
        async move {
            let connection = dial_client(&address, ClientHello { client, cluster }).await?;
            let info = LinkInfo { address, node: connection.welcome.node, cluster: connection.welcome.cluster };
            let (reader, writer) = connection.split();
            Ok(Link::start(info, reader, writer))
        }
        .boxed()
    }
}

impl From<TransportError> for DialError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Unreachable { source, .. } => Self::Unreachable(source.to_string()),
            TransportError::Refused { refusal, .. } => match refusal.code {
                RefusalCode::Cluster => Self::WrongCluster(refusal.text),
                RefusalCode::Malformed | RefusalCode::Protocol | RefusalCode::Unsupported => {
                    Self::Protocol(refusal.text)
                }
                RefusalCode::NotFormed
                | RefusalCode::Other
                | RefusalCode::Receiver
                | RefusalCode::UnknownNode
                | RefusalCode::Incarnation
                | RefusalCode::SelfConnection
                | RefusalCode::RecordVersion
                | RefusalCode::CommandVersion
                | RefusalCode::Direction
                | RefusalCode::Timeout
                | RefusalCode::Disconnected
                | RefusalCode::Violation
                | RefusalCode::Removed => Self::Unreachable(refusal.text),
            },
        }
    }
}
