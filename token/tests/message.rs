//! The worker's messages are decoded to what was encoded, and nothing else is accepted.

use nunbird_handover::PullPolicy;
use nunbird_token::{
    Admitted, AskedContainers, AskedImage, AskedService, AskedVariable, Bound, Containers, JobToken,
    Rejection, Source, UserIdentity, WireError, decode, decode_job_token, encode, encode_job_token,
};
use proptest::prelude::*;

fn image() -> impl Strategy<Value = AskedImage> {
    let words = proptest::option::of(proptest::collection::vec("[a-z\\n\\t $]{0,9}", 0..4));
    let text = || proptest::option::of("[a-z:0-9]{1,9}");
    let policies = [PullPolicy::Always, PullPolicy::IfNotPresent, PullPolicy::Never];
    ("[a-z/:.@]{1,40}", words, text(), text(), proptest::sample::subsequence(policies.to_vec(), 0..3))
        .prop_map(|(name, entrypoint, user, platform, pull)| AskedImage {
            name,
            entrypoint,
            user,
            platform,
            pull,
        })
}

fn asked() -> impl Strategy<Value = Result<AskedContainers, String>> {
    let variable = ("[A-Z_]{1,9}", "[a-zé\\n$]{0,20}", any::<bool>())
        .prop_map(|(name, value, raw)| AskedVariable { name, value, raw });
    let words = proptest::option::of(proptest::collection::vec("[a-z ]{0,9}", 0..4));
    let lists = (
        proptest::collection::vec("[a-z][a-z.-]{0,9}", 0..3),
        proptest::collection::vec(1..u16::MAX, 0..3),
        proptest::collection::vec(variable, 0..3),
    );
    let service = (image(), words, lists).prop_map(|(image, command, (aliases, ports, variables))| {
        AskedService { image, aliases, command, ports, variables }
    });
    let services = proptest::collection::vec(service, 0..3);
    let whole = (proptest::option::of(image()), services, proptest::collection::vec("[A-Z]{1,9}", 0..3))
        .prop_map(|(image, services, public)| Ok(AskedContainers { image, services, public }));
    prop_oneof![9 => whole, 1 => "[a-z.]{1,20}".prop_map(Err)]
}

fn admitted() -> impl Strategy<Value = Admitted> {
    let id = 1..u64::MAX;
    let text = "[a-zé/ .-]{1,30}";
    let number = || proptest::option::of(any::<u64>());
    let ids = (id.clone(), id.clone(), id.clone(), id.clone(), id, number(), number(), number());
    let texts = (text, text, text, text, text, proptest::option::of(text));
    let optional = (
        proptest::option::of(text),
        proptest::option::of(text),
        proptest::option::of(text),
        proptest::option::of(text),
    );
    let truth = || proptest::option::of(any::<bool>());
    let flags = (any::<bool>(), truth(), truth(), truth());
    let lists = (
        proptest::option::of(proptest::collection::vec(text, 0..5)),
        proptest::collection::vec((text, text), 0..4),
    );
    let rest = ("[a-z]{1,9}(/[a-z]{1,9}){0,3}", asked());
    (ids, texts, 0..8_usize, optional, flags, lists, rest).prop_map(
        |(i, t, server, o, f, l, (dir, asked))| Admitted {
            server,
            source: if f.0 { Source::JobToken } else { Source::IdToken },
            expires_at: i.0,
            job_id: i.1,
            pipeline_id: i.2,
            project_id: i.3,
            user_id: i.4,
            runner_id: i.5,
            namespace_id: i.6,
            queued: i.7,
            ref_protected: f.1,
            environment_protected: f.2,
            fork: f.3,
            user_email: o.0,
            access_level: o.1,
            ref_type: o.2.clone(),
            containers: Containers { image: o.2, services: t.5.clone(), steps: f.0, asked },
            requested_account: o.3.clone(),
            requested_builds_dir: o.3,
            groups: l.0,
            identities: l
                .1
                .into_iter()
                .map(|(provider, extern_uid)| UserIdentity { provider, extern_uid })
                .collect(),
            user_login: t.0,
            project_path: t.1,
            namespace_path: t.2,
            git_ref: t.3,
            pipeline_source: Some(t.4),
            environment: t.5,
            project_dir: dir.into(),
        },
    )
}

proptest! {
    #[test]
    fn the_workers_message_comes_back_as_it_went(admitted in admitted()) {
        let bytes = encode(&Ok(admitted.clone()));
        prop_assert_eq!(decode(&bytes), Ok(Ok(admitted)));
        prop_assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        let mut longer = bytes.clone();
        longer.push(0);
        prop_assert!(decode(&longer).is_err());
    }

    #[test]
    fn a_message_with_a_byte_changed_never_names_a_deceptive_text(admitted in admitted(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = encode(&Ok(admitted));
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(Ok(changed)) = decode(&bytes) {
            let login = &changed.user_login;
            prop_assert!(!login.chars().any(nunbird_handover::Untrusted::is_deceptive) && !login.is_empty());
            prop_assert!(changed.project_dir.is_relative() && changed.job_id != 0);
            for image in changed.containers.asked.iter().flat_map(|asked| &asked.image) {
                prop_assert!(!image.name.chars().any(nunbird_handover::Untrusted::is_deceptive));
            }
        }
    }

    #[test]
    fn any_bytes_as_a_message_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        let _ = decode_job_token(&bytes);
    }
}

#[test]
fn every_rejection_survives_the_workers_message() {
    let bounds = [Bound::Job, Bound::Project, Bound::Pipeline, Bound::User].map(Rejection::OtherJob);
    let runners =
        [None, Some(12), Some(u64::MAX)].map(|runner_id| Rejection::OtherRunner { server: 1, runner_id });
    let plain = [
        Rejection::Response,
        Rejection::Keys,
        Rejection::NoToken,
        Rejection::Empty,
        Rejection::Malformed,
        Rejection::UnknownKey,
        Rejection::Header,
        Rejection::Claims,
        Rejection::Issuer,
        Rejection::Audience,
        Rejection::Expired,
        Rejection::NotYetValid,
        Rejection::JobAnswer,
    ];
    for rejection in plain.into_iter().chain(bounds).chain(runners) {
        assert_eq!(decode(&encode(&Err(rejection))), Ok(Err(rejection)));
    }
}

#[test]
fn a_job_token_survives_its_message_and_no_other_message_is_one() {
    let found = Ok(JobToken { server: 1, token: "glcbt-64_x".to_owned() });
    let bytes = encode_job_token(&found);
    assert_eq!(decode_job_token(&bytes), Ok(found));
    assert_eq!(decode(&bytes), Err(WireError));
    assert_eq!(decode_job_token(&encode_job_token(&Err(Rejection::NoToken))), Ok(Err(Rejection::NoToken)));
    for token in ["", "two words", "a\nb", &"x".repeat(9000)] {
        let bytes = encode_job_token(&Ok(JobToken { server: 0, token: token.to_owned() }));
        assert_eq!(decode_job_token(&bytes), Err(WireError), "{token}");
    }
}
