//! etcd's configuration file: read, merged with what was decided, and written whole.
//!
//! Where etcd is given such a file it silently ignores every flag and variable, so that a decision can only reach it
//! inside the file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::flags::{EtcdSettings, Shown, go_bool, nanoseconds, same_value};
use crate::known_flags::{KNOWN_FLAGS, Kind, KnownFlag};
use crate::settings::SettingsError;

/// YAML gives a key of a mapping 1024 characters, quotes included; each of ours may be written as an escape of six.
const KEY_BYTES_MAX: usize = 1000 / 6;

/// An etcd configuration file.
///
/// It is kept and written as JSON, which is YAML too: etcd reads YAML 1.1, where a plain `off` or `1_000` is no text, and
/// no writer of YAML 1.2 puts quotes around those.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigFile {
    content: Map<String, Value>,
}

impl ConfigFile {
    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// Exit code 78: the text is no YAML mapping.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SettingsError> {
        let fail = |reason: String| {
            SettingsError::config(
                format!("--config-file={} cannot be used: {reason}", path.display()),
                "mend the file, or give etcd's settings as flags",
            )
        };
        let mut yaml: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|error| fail(error.to_string()))?;
        yaml.apply_merge().map_err(|error| fail(error.to_string()))?;
        let mut file = match serde_json::to_value(yaml).map_err(|error| fail(error.to_string()))? {
            Value::Object(content) => Self { content },
            Value::Null => Self::default(),
            _ => return Err(fail("it is no mapping of settings to values".to_owned())),
        };
        if !file.content.iter().all(|(key, value)| has_short_keys(key, value)) {
            return Err(fail(format!("it has a key of more than {KEY_BYTES_MAX} bytes, and etcd knows none so long")));
        }
        let discovery = file.content.get(&file.key("discovery-config")).and_then(Value::as_object);
        if discovery.is_some_and(|discovery| !discovery.is_empty()) {
            return Err(fail("its `discovery-config` is a discovery of etcd's own, which asks once".to_owned()));
        }
        file.read_yes_and_no();
        file.check_types().map_err(fail)?;
        Ok(file)
    }

    /// Makes booleans of what YAML 1.1 takes for such.
    fn read_yes_and_no(&mut self) {
        for flag in KNOWN_FLAGS.iter().filter(|flag| flag.kind == Kind::Bool) {
            if let Some(value) = self.value(flag).and_then(yes_or_no) {
                self.set(flag, if value { "true" } else { "false" });
            }
        }
    }

    fn check_types(&self) -> Result<(), String> {
        for flag in KNOWN_FLAGS {
            let Some(value) = self.value(flag).and_then(text_of).filter(|value| !value.is_empty()) else { continue };
            let is_number = value.parse::<f64>().is_ok();
            let expected = match flag.kind {
                Kind::Bool if go_bool(&value).is_none() => "true or false",
                Kind::Number if !is_number => "a number",
                Kind::Duration if !is_number => "a number of nanoseconds, as etcd reads durations in a file",
                _ => continue,
            };
            return Err(format!("{}: {value} is not {expected}", flag.name));
        }
        Ok(())
    }

    /// The settings as etcd gets them from this file. What was given beside the file has to say the same, for etcd
    /// would not look at it.
    ///
    /// # Errors
    /// Exit code 78: a flag or a variable that the file does not have, or has with another value.
    pub fn settings(&self, given: &EtcdSettings) -> Result<EtcdSettings, SettingsError> {
        let mut settings = EtcdSettings::default();
        settings.foreign_variables.clone_from(&given.foreign_variables);
        for flag in KNOWN_FLAGS {
            if let Some(value) = self.value(flag).and_then(text_of).filter(|value| !value.is_empty()) {
                settings.insert_from_file(flag, value);
            }
        }
        // What a flag cannot say in a file is left out here: etcd would ignore it as well.
        let decided = ["config-file", "initial-cluster-state"];
        for (flag, setting) in given.iter().filter(|(flag, _)| !decided.contains(&flag.name)) {
            let in_file = settings.get(flag.name);
            if in_file.is_some_and(|value| same_value(flag, value, &setting.value)) {
                continue;
            }
            let instead = in_file.map_or("does not have it".to_owned(), |value| format!("has `{value}`"));
            return Err(SettingsError::config(
                format!("{} is given beside a configuration file, which {instead}", Shown(flag.name, setting)),
                format!("etcd ignores flags and ETCD_ variables beside --config-file: set {} in one place", flag.name),
            ));
        }
        if let Some((name, value)) = given.unknown().first() {
            return Err(SettingsError::config(
                format!("--{name}={value} is given beside a configuration file, where etcd ignores it"),
                "set it in the file",
            ));
        }
        Ok(settings)
    }

    /// The file that says what these settings say, for a container that is given no flags.
    ///
    /// # Errors
    /// Exit code 78: a setting that etcd's configuration file has no word for.
    pub fn from_settings(settings: &EtcdSettings) -> Result<Self, SettingsError> {
        let mut file = Self::default();
        for (flag, setting) in settings.iter().filter(|(flag, _)| flag.kind != Kind::Ignored) {
            if !setting.value.is_empty() && !file.set(flag, &setting.value) {
                return Err(not_in_a_file(flag.name, &setting.value));
            }
        }
        match settings.unknown().first() {
            Some((name, value)) => Err(not_in_a_file(name, value)),
            None => Ok(file),
        }
    }

    /// Sets this setting, and whether the file has a word for it.
    pub fn set(&mut self, flag: &KnownFlag, value: &str) -> bool {
        let Some((section, key)) = place(flag.name) else { return false };
        let content = match section {
            None => &mut self.content,
            Some(section) => {
                let key = self.key(section);
                let nested = self.content.entry(key).or_insert(Value::Null);
                if !nested.is_object() {
                    *nested = Value::Object(Map::new());
                }
                let Value::Object(nested) = nested else { return false };
                nested
            }
        };
        content.insert(spelling(content, key), value_of(flag.kind, value));
        true
    }

    /// Takes a setting out.
    pub fn remove(&mut self, name: &str) {
        let key = self.key(name);
        self.content.remove(&key);
    }

    /// The text, complete: JSON, and YAML as well, which takes fewer characters as they are.
    pub fn text(&self) -> String {
        let json = format!("{:#}\n", Value::Object(self.content.clone()));
        let mut text = String::with_capacity(json.len());
        for c in json.chars() {
            match c {
                '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                    text.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                _ => text.push(c),
            }
        }
        text
    }

    fn value(&self, flag: &KnownFlag) -> Option<&Value> {
        let (section, key) = place(flag.name)?;
        match section {
            None => self.content.get(&spelling(&self.content, key)),
            Some(section) => {
                let nested = self.content.get(&self.key(section))?.as_object()?;
                nested.get(&spelling(nested, key))
            }
        }
    }

    fn key(&self, name: &str) -> String {
        spelling(&self.content, name)
    }
}

/// Replaces the file at `path` in one step; only the owner can read it.
///
/// # Errors
/// Where the directory is missing, full or not writable.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

fn not_in_a_file(name: &str, value: &str) -> SettingsError {
    SettingsError::config(
        format!("--{name}={value} cannot be said in etcd's configuration file"),
        "leave it out, or let etcd-bootstrap be the entrypoint instead of writing a file",
    )
}

/// Where a configuration file has what this flag says: the section, if any, and the key.
fn place(flag: &str) -> Option<(Option<&'static str>, &str)> {
    const CLIENT: Option<&str> = Some("client-transport-security");
    const PEER: Option<&str> = Some("peer-transport-security");
    const SOCKET: Option<&str> = Some("socket-options");
    Some(match flag {
        "cert-file" | "key-file" | "client-cert-file" | "client-key-file" | "trusted-ca-file" | "client-cert-auth"
        | "auto-tls" => (CLIENT, flag),
        "client-cert-allowed-hostname" => (CLIENT, "allowed-hostname"),
        "peer-cert-allowed-cn" => (PEER, "allowed-cn"),
        "peer-cert-allowed-hostname" => (PEER, "allowed-hostname"),
        "peer-cert-file"
        | "peer-key-file"
        | "peer-client-cert-file"
        | "peer-client-key-file"
        | "peer-trusted-ca-file"
        | "peer-client-cert-auth"
        | "peer-auto-tls"
        | "peer-skip-client-san-verification" => (PEER, flag.strip_prefix("peer-")?),
        "socket-reuse-port" => (SOCKET, "reuse-port"),
        "socket-reuse-address" => (SOCKET, "reuse-address"),
        "experimental-snapshot-catchup-entries" => (None, "experimental-snapshot-catch-up-entries"),
        "client-crl-file" | "peer-crl-file" | "raft-read-timeout" | "raft-write-timeout" | "config-file"
        | "version" => return None,
        _ => (None, flag),
    })
}

/// The key as the file spells it: etcd does not mind capitals.
fn spelling(content: &Map<String, Value>, name: &str) -> String {
    content.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned().unwrap_or_else(|| name.to_owned())
}

fn has_short_keys(key: &str, value: &Value) -> bool {
    let inner = match value {
        Value::Object(object) => object.iter().all(|(key, value)| has_short_keys(key, value)),
        Value::Array(items) => items.iter().all(|item| has_short_keys("", item)),
        _ => true,
    };
    inner && Value::from(key).to_string().len() <= KEY_BYTES_MAX
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        Value::Array(items) => Some(items.iter().filter_map(text_of).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Object(_) => None,
    }
}

fn value_of(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Bool => go_bool(text).map(Value::from),
        Kind::Number => text.parse::<i64>().ok().map(Value::from),
        Kind::Duration => nanoseconds(text).map(Value::from),
        Kind::List => Some(text.split(',').map(|item| Value::from(item.trim())).collect()),
        Kind::Text | Kind::Ignored => None,
    }
    .unwrap_or_else(|| Value::from(text))
}

/// A boolean as YAML 1.1 writes it, which etcd reads; here `yes` was read as a text.
fn yes_or_no(value: &Value) -> Option<bool> {
    match value.as_str()? {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}
