/* What nunbird-session is linked against in place of the libpam of another architecture: the functions of pam/src/raw.rs by their
 * names and versions, and nothing in them. It is never installed; the host's libpam.so.0 is loaded. */
void pam_start(void) {}
void pam_end(void) {}
void pam_set_item(void) {}
void pam_get_item(void) {}
void pam_acct_mgmt(void) {}
void pam_setcred(void) {}
void pam_open_session(void) {}
void pam_close_session(void) {}
void pam_getenvlist(void) {}
void pam_strerror(void) {}
