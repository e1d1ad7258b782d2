//! etcd's versions, as far as they decide who works with whom: major and minor.

use std::fmt;
use std::str::FromStr;

/// A minor version of etcd. Patches of it work with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minor {
    /// 3, so far.
    pub major: u32,
    /// Of that.
    pub minor: u32,
}

impl Minor {
    /// 3.0: what a cluster says before it has told its members' versions.
    pub const FOUNDING: Self = Self { major: 3, minor: 0 };
    /// 3.5: the last whose log has requests in the form of the v2 API.
    pub const V3_5: Self = Self { major: 3, minor: 5 };
    /// 3.6: the first that can be downgraded, and that replays only some of those requests.
    pub const V3_6: Self = Self { major: 3, minor: 6 };
    /// 3.7: the first that replays none.
    pub const V3_7: Self = Self { major: 3, minor: 7 };

    /// The one after, within its major version.
    pub fn after(self) -> Self {
        Self { minor: self.minor.saturating_add(1), ..self }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Minor {
    type Err = String;

    /// Reads `3.6.16`, `3.6.0`, `3.7.0-rc.1` or `3.6`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(['.', '-', '+']).map(str::parse);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { major, minor }),
            _ => Err(format!("`{text}` is not a version of etcd")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        let minor = |text: &str| text.parse::<Minor>().unwrap();
        assert_eq!(minor("3.6.16"), Minor::V3_6);
        assert_eq!(minor("3.7.0-rc.1"), Minor::V3_7);
        assert_eq!(minor("3.5"), Minor::V3_5);
        assert!(minor("3.10.0") > minor("3.9.9") && minor("4.0.0") > minor("3.10.0"));
        assert_eq!(Minor::V3_6.after(), Minor::V3_7);
        assert_eq!(Minor::V3_6.to_string(), "3.6");
        for bad in ["", "3", "not_decided", "3.x", "v3.6.0"] {
            assert!(bad.parse::<Minor>().is_err(), "{bad}");
        }
    }
}
