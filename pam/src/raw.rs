//! The declarations of `security/_pam_types.h` and `security/pam_appl.h` of Linux-PAM that are used
//! here. Its numbers and structures have not changed since 0.77.

#![allow(missing_docs, non_camel_case_types, reason = "names and meanings are libpam's")]

use std::ffi::{c_char, c_int, c_void};

pub(crate) const PAM_SUCCESS: c_int = 0;
pub(crate) const PAM_BUF_ERR: c_int = 5;
pub(crate) const PAM_PERM_DENIED: c_int = 6;
pub(crate) const PAM_AUTH_ERR: c_int = 7;
pub(crate) const PAM_USER_UNKNOWN: c_int = 10;
pub(crate) const PAM_MAXTRIES: c_int = 11;
pub(crate) const PAM_NEW_AUTHTOK_REQD: c_int = 12;
pub(crate) const PAM_ACCT_EXPIRED: c_int = 13;
pub(crate) const PAM_CONV_ERR: c_int = 19;

pub(crate) const PAM_USER: c_int = 2;
pub(crate) const PAM_TTY: c_int = 3;
pub(crate) const PAM_RHOST: c_int = 4;
pub(crate) const PAM_RUSER: c_int = 8;

pub(crate) const PAM_ESTABLISH_CRED: c_int = 2;
pub(crate) const PAM_DELETE_CRED: c_int = 4;

pub(crate) const PAM_ERROR_MSG: c_int = 3;
pub(crate) const PAM_TEXT_INFO: c_int = 4;

#[repr(C)]
pub(crate) struct pam_handle {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct pam_message {
    pub(crate) msg_style: c_int,
    pub(crate) msg: *const c_char,
}

#[repr(C)]
pub(crate) struct pam_response {
    pub(crate) resp: *mut c_char,
    pub(crate) resp_retcode: c_int,
}

pub(crate) type Converse =
    unsafe extern "C" fn(c_int, *mut *const pam_message, *mut *mut pam_response, *mut c_void) -> c_int;

#[repr(C)]
pub(crate) struct pam_conv {
    pub(crate) conv: Option<Converse>,
    pub(crate) appdata_ptr: *mut c_void,
}

#[link(name = "pam")]
unsafe extern "C" {
    pub(crate) fn pam_start(
        service: *const c_char,
        user: *const c_char,
        conversation: *const pam_conv,
        handle: *mut *mut pam_handle,
    ) -> c_int;
    pub(crate) fn pam_end(handle: *mut pam_handle, status: c_int) -> c_int;
    pub(crate) fn pam_set_item(handle: *mut pam_handle, item: c_int, value: *const c_void) -> c_int;
    pub(crate) fn pam_get_item(handle: *const pam_handle, item: c_int, value: *mut *const c_void) -> c_int;
    pub(crate) fn pam_acct_mgmt(handle: *mut pam_handle, flags: c_int) -> c_int;
    pub(crate) fn pam_setcred(handle: *mut pam_handle, flags: c_int) -> c_int;
    pub(crate) fn pam_open_session(handle: *mut pam_handle, flags: c_int) -> c_int;
    pub(crate) fn pam_close_session(handle: *mut pam_handle, flags: c_int) -> c_int;
    pub(crate) fn pam_getenvlist(handle: *mut pam_handle) -> *mut *mut c_char;
    pub(crate) fn pam_strerror(handle: *mut pam_handle, code: c_int) -> *const c_char;
}
