//! Messages and prompts of modules (pam_conv(3)). Messages are collected, and prompts fail, because
//! a job has no terminal.

use crate::raw;
use std::ffi::{CStr, c_int, c_void};

/// The most bytes that are kept of one message. `PAM_MAX_MSG_SIZE` of Linux-PAM is 512, but it is
/// not enforced for modules.
const MAX_TEXT: usize = 4096;

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// `PAM_TEXT_INFO`.
    Information,
    /// `PAM_ERROR_MSG`.
    Trouble,
    /// A prompt, which was not answered.
    Question,
}

/// A message of a module, its first 4096 bytes. Untrusted text: bytes that are not UTF-8 are
/// replaced, nothing else is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its kind.
    pub tone: Tone,
    /// The text.
    pub text: String,
}

/// The caller's function for messages.
pub(crate) struct Listener {
    hear: Box<dyn FnMut(Heard)>,
}

impl Listener {
    pub(crate) fn new(hear: Box<dyn FnMut(Heard)>) -> Self {
        Listener { hear }
    }

    /// Whether the message needs no answer.
    fn heard(&mut self, style: c_int, text: String) -> bool {
        let tone = match style {
            raw::PAM_TEXT_INFO => Tone::Information,
            raw::PAM_ERROR_MSG => Tone::Trouble,
            _ => Tone::Question,
        };
        (self.hear)(Heard { tone, text });
        tone != Tone::Question
    }
}

/// The callback through which libpam reaches the listener.
pub(crate) unsafe extern "C" fn converse(
    count: c_int,
    messages: *mut *const raw::pam_message,
    responses: *mut *mut raw::pam_response,
    listener: *mut c_void,
) -> c_int {
    let Some(count) = usize::try_from(count).ok().filter(|n| (1..=32).contains(n)) else {
        return raw::PAM_CONV_ERR;
    };
    if messages.is_null() || responses.is_null() || listener.is_null() {
        return raw::PAM_CONV_ERR;
    }
    for index in 0..count {
        // SAFETY: Linux-PAM passes an array of `count` pointers to messages (pam_conv(3)); each
        // text ends with NUL or is null.
        let (style, text) = unsafe {
            let message = *messages.add(index);
            if message.is_null() {
                return raw::PAM_CONV_ERR;
            }
            let text = (*message).msg;
            let text = if text.is_null() { c"" } else { CStr::from_ptr(text) }.to_bytes();
            ((*message).msg_style, String::from_utf8_lossy(text.get(..MAX_TEXT).unwrap_or(text)).into_owned())
        };
        // SAFETY: `appdata_ptr` is the listener that Handle::start leaked; it lives until after
        // pam_end, and libpam calls this function only from within calls of its one thread, so
        // there is no other reference to it now.
        if !unsafe { &mut *listener.cast::<Listener>() }.heard(style, text) {
            return raw::PAM_CONV_ERR;
        }
    }
    // SAFETY: calloc takes two numbers. Zero bytes are responses without text; the module frees them (pam_conv(3)).
    let answers = unsafe { libc::calloc(count, size_of::<raw::pam_response>()) };
    if answers.is_null() {
        return raw::PAM_BUF_ERR;
    }
    // SAFETY: `responses` is libpam's location for a pointer, and not null.
    unsafe { *responses = answers.cast() };
    raw::PAM_SUCCESS
}
