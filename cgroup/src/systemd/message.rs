//! Calls to systemd as bytes, as the D-Bus specification has them ("Message Protocol", "Type System"): this machine's byte
//! order, each value at a multiple of its own alignment, counted from the message's beginning.
//!
//! Only what this program asks for can be written. No text of a stranger's is in it: names are made of numbers.

/// `METHOD_CALL`.
const CALL: u8 = 1;
/// The version of the protocol.
pub(super) const PROTOCOL: u8 = 1;
/// Header fields of a call: code, signature, value.
const PATH: (u8, &str, &str) = (1, "o", "/org/freedesktop/systemd1");
const INTERFACE: (u8, &str, &str) = (2, "s", "org.freedesktop.systemd1.Manager");
const DESTINATION: (u8, &str, &str) = (6, "s", "org.freedesktop.systemd1");
const MEMBER: u8 = 3;
const SIGNATURE: u8 = 8;

/// `l` or `B`: the byte order of this machine, which is that of its process 1.
pub(super) const ORDER: u8 = if cfg!(target_endian = "big") { b'B' } else { b'l' };

/// The value of a unit's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Processes(Vec<u32>),
}

/// Bytes of a message, or of a part that begins at a multiple of eight.
#[derive(Debug, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn word(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_ne_bytes());
    }

    fn long(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_ne_bytes());
    }

    fn text(&mut self, text: &str) {
        self.word(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array of elements of this alignment. Its length does not count the space before the first one.
    fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.word(0);
        let place = self.0.len() - 4;
        self.align(alignment);
        let first = self.0.len();
        elements(self);
        let bytes = length(self.0.len() - first).to_ne_bytes();
        if let Some(field) = self.0.get_mut(place..place + 4) {
            field.copy_from_slice(&bytes);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Flag(flag) => {
                self.signature("b");
                self.word(u32::from(*flag));
            }
            Value::Number(number) => {
                self.signature("t");
                self.long(*number);
            }
            Value::Processes(pids) => {
                self.signature("au");
                self.array(4, |bytes| pids.iter().for_each(|pid| bytes.word(*pid)));
            }
        }
    }
}

fn length(bytes: usize) -> u32 {
    // Names and properties of ours: hundreds of bytes. A longer one is refused by its reader.
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// `StartTransientUnit(in s name, in s mode, in a(sv) properties, in a(sa(sv)) aux)`; mode `fail`, no further units.
pub(super) fn start(serial: u32, name: &str, properties: &[(&str, Value)]) -> Vec<u8> {
    let mut body = Bytes::default();
    body.text(name);
    body.text("fail");
    body.array(8, |bytes| {
        for (name, value) in properties {
            bytes.align(8);
            bytes.text(name);
            bytes.value(value);
        }
    });
    body.array(8, |_| {});
    call(serial, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body.0)
}

/// `StopUnit(in s name, in s mode)`; mode `replace`: a job of systemd's that starts it is not waited for.
pub(super) fn stop(serial: u32, name: &str) -> Vec<u8> {
    let mut body = Bytes::default();
    body.text(name);
    body.text("replace");
    call(serial, "StopUnit", "ss", &body.0)
}

fn call(serial: u32, member: &str, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = Bytes(vec![ORDER, CALL, 0, PROTOCOL]);
    bytes.word(length(body.len()));
    bytes.word(serial);
    bytes.array(8, |bytes| {
        for (code, kind, text) in [PATH, (MEMBER, "s", member), INTERFACE, DESTINATION] {
            bytes.align(8);
            bytes.0.push(code);
            bytes.signature(kind);
            bytes.text(text);
        }
        bytes.align(8);
        bytes.0.push(SIGNATURE);
        bytes.signature("g");
        bytes.signature(signature);
    });
    bytes.align(8);
    bytes.0.extend(body);
    bytes.0
}
