//! etcd's own settings: the one place that spells them.

/// etcd's settings, each once.
#[derive(Clone, Debug, Default)]
pub struct EtcdSettings {}
