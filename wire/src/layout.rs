//! Layouts of the types that messages are made of, and of messages by the order of their fields.

use crate::{Malformed, Message, Reader, Writer};
use std::ffi::CString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The layout of a struct: its fields in this order.
#[macro_export]
macro_rules! layout {
    ($type:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::Message for $type {
            fn write(&self, out: &mut $crate::Writer) {
                $( $crate::Message::write(&self.$field, out); )+
            }

            fn read(input: &mut $crate::Reader<'_>) -> Result<Self, $crate::Malformed> {
                Ok(Self { $( $field: $crate::Message::read(input)?, )+ })
            }
        }
    };
}

/// The layout of an enum: the variant's number in one byte, and its fields.
#[macro_export]
macro_rules! choice {
    ($type:ty { $($number:literal => $variant:ident $(($($field:ident),+))?),+ $(,)? }) => {
        impl $crate::Message for $type {
            fn write(&self, out: &mut $crate::Writer) {
                match self {
                    $( Self::$variant $(($($field),+))? => {
                        out.u8($number);
                        $( $( $crate::Message::write($field, out); )+ )?
                    } )+
                }
            }

            fn read(input: &mut $crate::Reader<'_>) -> Result<Self, $crate::Malformed> {
                Ok(match input.u8()? {
                    $( $number => Self::$variant $((
                        $({ let $field = $crate::Message::read(input)?; $field }),+
                    ))?, )+
                    _ => return Err($crate::Malformed),
                })
            }
        }
    };
}

macro_rules! number {
    ($($type:ident),+) => {$(
        impl Message for $type {
            fn write(&self, out: &mut Writer) {
                out.$type(*self);
            }

            fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
                input.$type()
            }
        }
    )+};
}

number!(u16, u32, u64);

impl Message for u8 {
    fn write(&self, out: &mut Writer) {
        out.u8(*self);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.u8()
    }

    fn write_list(items: &[Self], out: &mut Writer) {
        out.bytes(items);
    }

    fn read_list(input: &mut Reader<'_>) -> Result<Vec<Self>, Malformed> {
        input.bytes().map(<[u8]>::to_vec)
    }
}

impl Message for i32 {
    fn write(&self, out: &mut Writer) {
        out.u32(self.cast_unsigned());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.u32().map(u32::cast_signed)
    }
}

impl Message for bool {
    fn write(&self, out: &mut Writer) {
        out.flag(*self);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.flag()
    }
}

impl Message for String {
    fn write(&self, out: &mut Writer) {
        out.text(self);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.text()
    }
}

impl Message for PathBuf {
    fn write(&self, out: &mut Writer) {
        out.path(self);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.path()
    }
}

/// As a text without a NUL.
impl Message for CString {
    fn write(&self, out: &mut Writer) {
        out.bytes(self.as_bytes());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        CString::new(input.bytes()?).map_err(|_| Malformed)
    }
}

/// As whole milliseconds.
impl Message for Duration {
    fn write(&self, out: &mut Writer) {
        out.u64(u64::try_from(self.as_millis()).unwrap_or(u64::MAX));
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.u64().map(Duration::from_millis)
    }
}

/// As a text.
impl Message for SocketAddr {
    fn write(&self, out: &mut Writer) {
        out.text(&self.to_string());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.text()?.parse().map_err(|_| Malformed)
    }
}

impl<T: Message> Message for Box<T> {
    fn write(&self, out: &mut Writer) {
        self.as_ref().write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::read(input).map(Box::new)
    }
}

/// As a truth, whether it is a value, and the value or the error.
impl<T: Message, E: Message> Message for Result<T, E> {
    fn write(&self, out: &mut Writer) {
        out.flag(self.is_ok());
        match self {
            Ok(value) => value.write(out),
            Err(error) => error.write(out),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(if input.flag()? { Ok(T::read(input)?) } else { Err(E::read(input)?) })
    }
}

impl<T: Message> Message for Option<T> {
    fn write(&self, out: &mut Writer) {
        out.optional(self.as_ref(), |out, value| value.write(out));
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.optional(T::read)
    }
}

impl<T: Message> Message for Vec<T> {
    fn write(&self, out: &mut Writer) {
        T::write_list(self, out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::read_list(input)
    }
}

impl<T: Message + Copy + Default, const N: usize> Message for [T; N] {
    fn write(&self, out: &mut Writer) {
        self.iter().for_each(|item| item.write(out));
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut items = [T::default(); N];
        for item in &mut items {
            *item = T::read(input)?;
        }
        Ok(items)
    }
}

impl<A: Message, B: Message> Message for (A, B) {
    fn write(&self, out: &mut Writer) {
        self.0.write(out);
        self.1.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::read(input)?, B::read(input)?))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Malformed, Message};
    use std::ffi::CString;
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::time::Duration;

    #[derive(Debug, PartialEq)]
    enum Kind {
        Empty,
        Pair(u8, String),
    }

    choice!(Kind { 1 => Empty, 7 => Pair(number, text) });

    #[derive(Debug, PartialEq)]
    struct Whole {
        kinds: Vec<Kind>,
        bytes: Vec<u8>,
        path: Option<PathBuf>,
        word: CString,
        numbers: [Option<u64>; 2],
        pair: (i32, bool),
        time: Duration,
        address: SocketAddr,
        answers: Vec<Result<u16, Box<Kind>>>,
    }

    layout!(Whole { kinds, bytes, path, word, numbers, pair, time, address, answers });

    fn whole() -> Whole {
        Whole {
            kinds: vec![Kind::Empty, Kind::Pair(3, "x".to_owned())],
            bytes: vec![9; 300],
            path: Some("/a".into()),
            word: c"w".to_owned(),
            numbers: [None, Some(u64::MAX)],
            pair: (-1, true),
            time: Duration::from_millis(1500),
            address: "[::1]:5".parse().expect("an address"),
            answers: vec![Ok(7), Err(Box::new(Kind::Pair(4, "why".to_owned())))],
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written_and_no_part_of_it_is_one() {
        let bytes = whole().to_bytes();
        assert_eq!(Whole::from_bytes(&bytes), Ok(whole()));
        for length in 0..bytes.len() {
            assert_eq!(Whole::from_bytes(&bytes[..length]), Err(Malformed), "{length}");
        }
        assert_eq!(Whole::from_bytes(&[&bytes[..], &[0]].concat()), Err(Malformed));
    }

    #[test]
    fn another_number_is_no_variant_and_a_count_makes_no_room() {
        assert_eq!(Kind::from_bytes(&[1]), Ok(Kind::Empty));
        assert_eq!(Kind::from_bytes(&[2]), Err(Malformed));
        assert_eq!(Vec::<Kind>::from_bytes(&u32::MAX.to_le_bytes()), Err(Malformed));
        assert_eq!(CString::from_bytes(&[2, 0, 0, 0, b'a', 0]), Err(Malformed));
        assert_eq!(SocketAddr::from_bytes(&[1, 0, 0, 0, b'a']), Err(Malformed));
        assert_eq!(Result::<u8, u8>::from_bytes(&[2, 0]), Err(Malformed));
    }
}
