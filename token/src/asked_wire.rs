//! The part of the worker's message about the job's image and services.
//!
//! ```text
//! 0  field                                                   what is malformed
//! 1  optional image  services  names of public variables
//! image     name  optional words  optional text  optional text  pull policies
//! service   image  aliases  optional words  ports(u16 each)  variables: name  value  raw(u8)
//! ```
//!
//! What is optional begins with 0 for none or 1; lists are a u8 count and so many elements.

use crate::asked::{
    AskedContainers, AskedImage, AskedService, AskedVariable, MAX_ALIASES, MAX_NAME, MAX_PORTS, MAX_PUBLIC,
    MAX_SERVICES, MAX_VARIABLES, MAX_WORDS, is_text, is_variable,
};
use crate::reader::{Reader, WireError};
use crate::wire::put_text;
use nunbird_handover::PullPolicy;

const POLICIES: [PullPolicy; 3] = [PullPolicy::Always, PullPolicy::IfNotPresent, PullPolicy::Never];

pub(crate) fn put(out: &mut Vec<u8>, asked: &Result<AskedContainers, String>) {
    let asked = match asked {
        Ok(asked) => asked,
        Err(field) => {
            out.push(0);
            return put_text(out, field);
        }
    };
    out.push(1);
    out.push(u8::from(asked.image.is_some()));
    asked.image.iter().for_each(|image| put_image(out, image));
    put_count(out, asked.services.len());
    for service in &asked.services {
        put_image(out, &service.image);
        put_texts(out, &service.aliases);
        put_words(out, service.command.as_deref());
        put_count(out, service.ports.len());
        service.ports.iter().for_each(|port| out.extend_from_slice(&port.to_le_bytes()));
        put_count(out, service.variables.len());
        for AskedVariable { name, value, raw } in &service.variables {
            put_text(out, name);
            put_text(out, value);
            out.push(u8::from(*raw));
        }
    }
    put_texts(out, &asked.public);
}

fn put_image(out: &mut Vec<u8>, image: &AskedImage) {
    put_text(out, &image.name);
    put_words(out, image.entrypoint.as_deref());
    for text in [&image.user, &image.platform] {
        out.push(u8::from(text.is_some()));
        text.iter().for_each(|text| put_text(out, text));
    }
    put_count(out, image.pull.len());
    for policy in &image.pull {
        put_count(out, POLICIES.iter().position(|known| known == policy).unwrap_or(usize::MAX));
    }
}

fn put_words(out: &mut Vec<u8>, words: Option<&[String]>) {
    out.push(u8::from(words.is_some()));
    words.iter().for_each(|words| put_texts(out, words));
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    put_count(out, texts.len());
    texts.iter().for_each(|text| put_text(out, text));
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.push(u8::try_from(count).unwrap_or(u8::MAX));
}

/// Reads what [`put`] wrote, and checks each text again.
pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Result<AskedContainers, String>, WireError> {
    if !flag(reader)? {
        let field = reader.required_text()?;
        return if field.len() <= MAX_NAME { Ok(Err(field)) } else { Err(WireError) };
    }
    let image = optional(reader, image)?;
    let services = list(reader, MAX_SERVICES, service)?;
    let public = list(reader, MAX_PUBLIC, name)?;
    let asked = AskedContainers { image, services, public };
    if asked.is_sound() { Ok(Ok(asked)) } else { Err(WireError) }
}

fn image(reader: &mut Reader<'_>) -> Result<AskedImage, WireError> {
    Ok(AskedImage {
        name: reader.required_text()?,
        entrypoint: optional(reader, words)?,
        user: optional(reader, required)?,
        platform: optional(reader, required)?,
        pull: list(reader, POLICIES.len(), |reader| {
            POLICIES.get(usize::from(reader.byte()?)).copied().ok_or(WireError)
        })?,
    })
}

fn service(reader: &mut Reader<'_>) -> Result<AskedService, WireError> {
    Ok(AskedService {
        image: image(reader)?,
        aliases: list(reader, MAX_ALIASES, required)?,
        command: optional(reader, words)?,
        ports: list(reader, MAX_PORTS, |reader| {
            reader.short().and_then(|port| if port == 0 { Err(WireError) } else { Ok(port) })
        })?,
        variables: list(reader, MAX_VARIABLES, |reader| {
            Ok(AskedVariable { name: name(reader)?, value: any_text(reader)?, raw: flag(reader)? })
        })?,
    })
}

fn required(reader: &mut Reader<'_>) -> Result<String, WireError> {
    reader.required_text()
}

fn words(reader: &mut Reader<'_>) -> Result<Vec<String>, WireError> {
    list(reader, MAX_WORDS, any_text)
}

fn any_text(reader: &mut Reader<'_>) -> Result<String, WireError> {
    let text = reader.raw_text()?;
    if is_text(text) { Ok(text.to_owned()) } else { Err(WireError) }
}

fn name(reader: &mut Reader<'_>) -> Result<String, WireError> {
    let name = reader.required_text()?;
    if is_variable(&name) { Ok(name) } else { Err(WireError) }
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(WireError),
    }
}

fn optional<T>(
    reader: &mut Reader<'_>,
    one: impl FnOnce(&mut Reader<'_>) -> Result<T, WireError>,
) -> Result<Option<T>, WireError> {
    if flag(reader)? { one(reader).map(Some) } else { Ok(None) }
}

fn list<T>(
    reader: &mut Reader<'_>,
    most: usize,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = usize::from(reader.byte()?);
    if count > most {
        return Err(WireError);
    }
    (0..count).map(|_| one(reader)).collect()
}
