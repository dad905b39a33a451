//! Signatures: that nothing but an untouched file signed by a trusted key is accepted, and what is said about the rest.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lockgate_package::signing::{
    Accepted, Demands, ExpectedParent, PrivateKey, STATEMENT_LEN, Signed, TrustError, TrustedKey,
    TrustedKeys, Verdict, statement,
};
use lockgate_package::{AlignedBytes, Digest, Envelope, EnvelopeBuilder, EnvelopeError, Kind};
use proptest::prelude::*;

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_seed(&[number; 32])
}

fn trusted(numbers: &[u8]) -> TrustedKeys {
    let named = |number: &u8| TrustedKey::for_everything(key(*number).public(), format!("key {number}"));
    TrustedKeys::new(numbers.iter().map(named))
}

fn seal(kind: Kind, fill: u8) -> Vec<u8> {
    let mut builder = EnvelopeBuilder::new(kind, (1, 0), vec![fill; 20]);
    builder.section("a", vec![fill; 70]);
    builder.seal().unwrap()
}

fn sign(bytes: &[u8], numbers: &[u8]) -> Vec<u8> {
    numbers
        .iter()
        .fold(bytes.to_vec(), |bytes, number| Signed::read(&bytes).unwrap().sign(&key(*number)).unwrap())
}

fn demand(numbers: &[u8]) -> Demands {
    Demands { keys: Some(trusted(numbers)), sign_packages: true, ..Demands::default() }
}

/// How a loader that trusts these keys refuses; `None` when it accepts.
fn refusal(bytes: &[u8], kind: Kind, numbers: &[u8]) -> Option<TrustError> {
    demand(numbers).check_bytes(bytes, kind).err()
}

fn code(bytes: &[u8], kind: Kind, numbers: &[u8]) -> &'static str {
    refusal(bytes, kind, numbers).map_or("accepted", |error| error.code())
}

/// The content of an envelope with another trailer.
fn with_trailer(bytes: &[u8], trailer: &[u8]) -> Vec<u8> {
    [&bytes[..content_len(bytes)], trailer].concat()
}

fn content_len(bytes: &[u8]) -> usize {
    usize::try_from(u64::from_le_bytes(bytes[24..32].try_into().unwrap())).unwrap()
}

/// A trailer with the right digest and these bytes as its list of signatures.
fn trailer(bytes: &[u8], signatures: &[u8]) -> Vec<u8> {
    let digest = Digest::of(&bytes[..content_len(bytes)]);
    [b"\x82\xa6sha256\xc4\x20", &digest.0[..], b"\xaasignatures", signatures].concat()
}

/// An entry as MessagePack.
fn entry(key: &[u8], algorithm: &str, signature: &[u8]) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Entry<'a> {
        #[serde(serialize_with = "as_bytes")]
        key: &'a [u8],
        algorithm: &'a str,
        #[serde(serialize_with = "as_bytes")]
        signature: &'a [u8],
    }
    rmp_serde::to_vec_named(&Entry { key, algorithm, signature }).unwrap()
}

fn as_bytes<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

#[test]
fn signing_changes_the_trailer_alone() {
    for kind in Kind::ALL {
        let bytes = seal(kind, 7);
        let signed = sign(&bytes, &[1, 2]);
        assert_eq!(signed[..content_len(&bytes)], bytes[..content_len(&bytes)]);
        let (before, after) = (Signed::read(&bytes).unwrap(), Signed::read(&signed).unwrap());
        assert_eq!((before.digest(), before.kind()), (after.digest(), kind));
        assert_eq!((before.signatures().len(), after.signatures().len()), (0, 2));
        assert_eq!(after.strip().unwrap(), bytes, "what the sealer wrote comes back");
        // Whoever knows nothing of signatures reads it as before.
        let opened = Envelope::open(AlignedBytes::copy_of(&signed), kind, (1, 0)).unwrap();
        assert_eq!(opened.digest(), before.digest());
        assert_eq!(opened.as_bytes(), signed);
        assert_eq!(trusted(&[1]).require(&after), Ok(()));
    }
}

#[test]
fn the_order_of_signing_leaves_no_trace_and_signing_again_changes_nothing() {
    let bytes = seal(Kind::Bundle, 7);
    let signed = sign(&bytes, &[1, 2, 3]);
    for order in [[3, 2, 1], [2, 3, 1], [1, 3, 2]] {
        assert_eq!(sign(&bytes, &order), signed);
    }
    assert_eq!(sign(&signed, &[2, 1, 3, 2]), signed);
    let read = Signed::read(&signed).unwrap();
    assert!(read.signatures().is_sorted_by_key(|one| one.key));
    // A spoilt signature is mended by the same key.
    let mut spoilt = signed.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    let last = read.signatures().last().unwrap().key;
    let number = (1..=3).find(|number| key(*number).public().id() == last).unwrap();
    assert_eq!(code(&spoilt, Kind::Bundle, &[number]), "bad_signature");
    assert_eq!(sign(&spoilt, &[number]), signed);
}

#[test]
fn the_signed_statement_is_what_the_documentation_says() {
    let digest = Digest::of(b"content");
    let expected = [&b"lockgate/signature/1\0"[..], &[2, 0, 0, 0], &digest.0].concat();
    assert_eq!(statement(Kind::Package, &digest)[..], expected);
    assert_eq!(STATEMENT_LEN, 57);
    // The same by openssl: `openssl pkeyutl -sign -rawin -inkey KEY -in STATEMENT`.
    let signed = sign(&seal(Kind::Bundle, 7), &[1]);
    let read = Signed::read(&signed).unwrap();
    assert_eq!(read.digest().to_string(), "c8756a2d32cdc4e0740576da168a9286aa1a12a1ee3745960aa069230ca3f7f5");
    let [signature] = read.signatures() else { panic!("{read:?}") };
    assert_eq!(
        (signature.key.to_string().as_str(), signature.algorithm.as_str()),
        ("34750f98bd59fcfc", "ed25519")
    );
    assert_eq!(
        hex::encode(&signature.signature),
        "0d29b6539597c25c550902d6b90c35adabdc7811a9c427fef6e6ec8bdd2f031e\
         7ad1f7baffea87472b810dbe4ee13607ca516a43d2cf4fb230d610cdc2ac7304"
    );
}

#[test]
fn every_changed_bit_and_every_truncation_is_refused() {
    for kind in [Kind::Bundle, Kind::Package] {
        let good = sign(&seal(kind, 7), &[1]);
        assert_eq!(code(&good, kind, &[1]), "accepted");
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert_ne!(code(&bad, kind, &[1]), "accepted", "bit {bit} of byte {at}");
            }
            assert_ne!(code(&good[..at], kind, &[1]), "accepted", "cut at {at}");
        }
        assert_ne!(code(&[&good[..], &[0]].concat(), kind, &[1]), "accepted");
    }
}

#[test]
fn signatures_do_not_move_between_envelopes_or_kinds() {
    let (one, other) = (sign(&seal(Kind::Bundle, 7), &[1]), seal(Kind::Bundle, 8));
    let signature = Signed::read(&one).unwrap().signatures()[0].clone();
    let id = key(1).public().id();
    let carry = |bytes: &[u8], signature: &[u8]| {
        let list = [&[0x91][..], &entry(&id.0, "ed25519", signature)].concat();
        with_trailer(bytes, &trailer(bytes, &list))
    };
    assert_eq!(carry(&seal(Kind::Bundle, 7), &signature.signature), one, "the test's own writer is right");
    assert_eq!(code(&carry(&other, &signature.signature), Kind::Bundle, &[1]), "bad_signature");
    // One trailer for the other: then not even the digest fits.
    let moved = with_trailer(&other, &one[content_len(&one)..]);
    assert!(matches!(
        refusal(&moved, Kind::Bundle, &[1]),
        Some(TrustError::Envelope(EnvelopeError::DigestMismatch { .. }))
    ));
    // The same content as another kind has another digest, so the statement differs twice.
    let package = seal(Kind::Package, 7);
    assert_eq!(code(&carry(&package, &signature.signature), Kind::Package, &[1]), "bad_signature");
    let signed = sign(&package, &[1]);
    assert_eq!(
        refusal(&signed, Kind::Bundle, &[1]).unwrap().to_string(),
        "expected a policy bundle, found a model package"
    );
    // A signature of the right digest for the wrong kind.
    let digest = Signed::read(&other).unwrap().digest();
    let dalek = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let made = |kind| ed25519_dalek::Signer::sign(&dalek, &statement(kind, &digest)).to_bytes();
    assert_eq!(code(&carry(&other, &made(Kind::Bundle)), Kind::Bundle, &[1]), "accepted");
    assert_eq!(code(&carry(&other, &made(Kind::Package)), Kind::Bundle, &[1]), "bad_signature");
    // Another key's signature under this key's id.
    let dalek = ed25519_dalek::SigningKey::from_bytes(&[2; 32]);
    let forged = ed25519_dalek::Signer::sign(&dalek, &statement(Kind::Bundle, &digest)).to_bytes();
    assert_eq!(code(&carry(&other, &forged), Kind::Bundle, &[1]), "bad_signature");
}

#[test]
fn refusals_say_what_was_expected() {
    let (bytes, kind) = (seal(Kind::Bundle, 7), Kind::Bundle);
    let short = Signed::read(&bytes).unwrap().digest().short();
    let id = |number| key(number).public().id();
    let check = |bytes: &[u8], numbers: &[u8], expected: (&str, &str)| {
        let error = refusal(bytes, kind, numbers).unwrap();
        assert_eq!((error.code(), error.to_string().as_str()), expected);
        assert!(!error.hint().is_empty());
    };
    let (one, two) = (id(1), id(2));
    check(
        &bytes,
        &[1, 2],
        (
            "unsigned",
            &format!(
                "the policy bundle sha256:{short} is not signed; expected a signature by {one} (key 1), {two} (key 2)"
            ),
        ),
    );
    check(
        &sign(&bytes, &[3]),
        &[1],
        (
            "unknown_key",
            &format!(
                "the policy bundle sha256:{short} is signed by {}, which is not trusted; \
                 expected a signature by {one} (key 1)",
                id(3)
            ),
        ),
    );
    let mut spoilt = sign(&bytes, &[1]);
    *spoilt.last_mut().unwrap() ^= 1;
    let bad = format!(
        "the policy bundle sha256:{short} has a signature by the trusted key {one} (key 1) that does not verify: \
         it was made for something else, or was changed"
    );
    check(&spoilt, &[1], ("bad_signature", &bad));
    // A bad signature is no less bad beside a good one.
    check(&sign(&spoilt, &[2]), &[1, 2], ("bad_signature", &bad));
    // Of an unknown key nobody can say that its signature is bad.
    assert_eq!(code(&sign(&spoilt, &[2]), kind, &[2]), "accepted");
    let other = [&[0x91][..], &entry(&one.0, "ed448", &[1; 114])].concat();
    check(
        &with_trailer(&bytes, &trailer(&bytes, &other)),
        &[1],
        (
            "unknown_key",
            &format!(
                "the policy bundle sha256:{short} is signed by {one} by the unknown algorithm `ed448`, which is not trusted; \
                 expected a signature by {one} (key 1)"
            ),
        ),
    );

    let only_packages =
        TrustedKey { kinds: vec![Kind::Package], ..TrustedKey::for_everything(key(1).public(), "models") };
    let keys = TrustedKeys::new([only_packages, TrustedKey::for_everything(key(2).public(), "release")]);
    let demands = Demands { keys: Some(keys.clone()), sign_packages: true, ..Demands::default() };
    let error = demands.check_bytes(&sign(&bytes, &[1]), kind).unwrap_err();
    assert_eq!(error.code(), "key_not_allowed");
    assert_eq!(
        error.to_string(),
        format!(
            "the policy bundle sha256:{short} is signed by {one} (models), which may not sign it; \
             expected a signature by {two} (release)"
        )
    );
    assert_eq!(demands.check_bytes(&sign(&bytes, &[1, 2]), kind), Ok(()));
    assert_eq!(demands.check_bytes(&sign(&seal(Kind::Package, 1), &[1]), Kind::Package), Ok(()));
    let signed = sign(&bytes, &[1, 2, 3]);
    let mut verdicts: Vec<_> =
        keys.judge(&Signed::read(&signed).unwrap()).iter().map(|one| one.verdict.code()).collect();
    verdicts.sort_unstable();
    assert_eq!(verdicts, ["good", "not_allowed", "unknown_key"]);
}

#[test]
fn keys_rotate_and_a_removed_key_is_revoked() {
    let kind = Kind::Bundle;
    let (old, both, new) =
        (sign(&seal(kind, 1), &[1]), sign(&seal(kind, 2), &[1, 2]), sign(&seal(kind, 3), &[2]));
    let accepted = |numbers: &[u8]| [&old, &both, &new].map(|bytes| code(bytes, kind, numbers));
    assert_eq!(accepted(&[1]), ["accepted", "accepted", "unknown_key"], "before");
    assert_eq!(accepted(&[1, 2]), ["accepted"; 3], "while both are trusted");
    assert_eq!(accepted(&[2]), ["unknown_key", "accepted", "accepted"], "after");
    assert_eq!(accepted(&[]), ["unknown_key"; 3], "nobody is trusted");
    let mut keys = trusted(&[1]);
    assert!(!keys.add(TrustedKey::for_everything(key(1).public(), "again")));
    assert_eq!(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["key 1"]);
}

#[test]
fn an_envelope_has_many_signatures_but_not_any_number() {
    let numbers: Vec<u8> = (1..=64).collect();
    let signed = sign(&seal(Kind::Package, 7), &numbers);
    let read = Signed::read(&signed).unwrap();
    assert_eq!(read.signatures().len(), 64);
    assert!(trusted(&numbers).judge(&read).iter().all(|one| one.verdict == Verdict::Good));
    assert_eq!(
        read.sign(&key(65)).unwrap_err().to_string(),
        "the model package is malformed: it would have 65 signatures, an envelope has at most 64"
    );
    assert_eq!(read.sign(&key(64)).unwrap(), signed);
}

#[test]
fn malformed_lists_are_refused_by_place() {
    let bytes = seal(Kind::Bundle, 7);
    let check = |signatures: &[u8], expected: &str| {
        let file = with_trailer(&bytes, &trailer(&bytes, signatures));
        let error = Signed::read(&file).unwrap_err().to_string();
        assert_eq!(error, format!("the policy bundle is malformed: {expected}"));
        assert_eq!(code(&file, Kind::Bundle, &[1]), "malformed");
        // A reader that demands nothing passes over it.
        assert!(Envelope::open(AlignedBytes::copy_of(&file), Kind::Bundle, (1, 0)).is_ok());
    };
    let list = |entries: &[Vec<u8>]| {
        [&[0x90 | u8::try_from(entries.len()).unwrap()][..], &entries.concat()].concat()
    };
    let good = entry(&[1; 8], "ed25519", &[2; 64]);
    check(
        &list(&[good.clone(), entry(&[3; 8], "ed25519", &[2; 63])]),
        "its signature 2 of 2 by key 0303030303030303 has 63 bytes, an ed25519 signature has 64",
    );
    check(
        &list(&[entry(&[3; 7], "ed25519", &[2; 64])]),
        "its signature 1 of 1 has a `key` of 7 bytes, a key id has 8",
    );
    check(
        &list(&[good.clone(), good.clone()]),
        "its signature 2 of 2 is a second one by key 0101010101010101",
    );
    check(
        &list(&[vec![0x93, 1, 2, 3]]),
        "its signature 1 of 1 is not a map of `key`, `algorithm` and `signature`",
    );
    check(&list(&[vec![0x80]]), "its signature 1 of 1 has no `key`");
    check(&list(&[b"\x81\x01\x02".to_vec()]), "its signature 1 of 1 has a field whose name is not text");
    check(&list(&[b"\x81\xa3key\xa1x".to_vec()]), "its signature 1 of 1 has a `key` that is not bytes");
    check(
        &list(&[b"\x82\xa3key\xc4\x08aaaaaaaa\xa3key\xc4\x08aaaaaaaa".to_vec()]),
        "its signature 1 of 1 has `key` twice",
    );
    check(
        &list(&[b"\x81\xa9algorithm\x01".to_vec()]),
        "its signature 1 of 1 has an `algorithm` that is not text",
    );
    // 65 entries that are there, and four thousand million that are not.
    check(&[&[0xdc, 0, 65][..], &[0xc0; 65]].concat(), "it has 65 signatures, an envelope has at most 64");
    // What no reader of MessagePack gets through is refused by all.
    let refuse = |signatures: &[u8], expected: &str| {
        let file = with_trailer(&bytes, &trailer(&bytes, signatures));
        assert_eq!(Signed::read(&file).unwrap_err().to_string(), expected);
        assert!(Envelope::open(AlignedBytes::copy_of(&file), Kind::Bundle, (1, 0)).is_err());
    };
    let not_a_list = "the policy bundle is malformed: `signatures` in its trailer is not a list";
    refuse(b"\x01", not_a_list);
    refuse(b"\xdf\xff\xff\xff\xff", not_a_list);
    let huge = "the policy bundle is malformed: it has 4294967295 signatures, an envelope has at most 64";
    refuse(b"\xdd\xff\xff\xff\xff", huge);
    refuse(b"\xdd\xff\xff\xff\xff\xc0\xc0", huge);
    refuse(
        &list(&[good[..good.len() - 1].to_vec()]),
        "the policy bundle is malformed: its signature 1 of 1 has a `signature` that is not bytes",
    );
    refuse(
        b"\x91\xdf\xff\xff\xff\xff",
        "the policy bundle is malformed: its signature 1 of 1 has a field whose name is not text",
    );
    refuse(
        &[0x91; 40],
        "the policy bundle is malformed: its signature 1 of 1 is not a map of `key`, `algorithm` and `signature`",
    );
    refuse(b"\x90\x00", "the policy bundle is truncated or has bytes behind its end: 253 bytes are there");
}

#[test]
fn what_later_versions_add_is_kept_when_signing() {
    let bytes = seal(Kind::Bundle, 7);
    let digest = Digest::of(&bytes[..content_len(&bytes)]);
    let id = key(9).public().id();
    let newer_entry =
        [b"\x84\xa3key\xc4\x08", &id.0[..], b"\xa4date\x01\xa9algorithm\xa5ed448\xa9signature\xc4\x01x"]
            .concat();
    let newer = [b"\x83\xa4note\xa2hi\xa6sha256\xc4\x20", &digest.0[..], b"\xaasignatures\x91", &newer_entry]
        .concat();
    let signed = sign(&with_trailer(&bytes, &newer), &[1]);
    assert_eq!(Signed::read(&signed).unwrap().signatures().len(), 2);
    let contains = |part: &[u8]| signed.windows(part.len()).any(|window| window == part);
    assert!(contains(&newer_entry) && contains(b"\xa4note\xa2hi"));
    assert_eq!(code(&signed, Kind::Bundle, &[1]), "accepted");
    let twice =
        [b"\x83\xa6sha256\xc4\x20", &digest.0[..], b"\xa6sha256\xc4\x20", &digest.0, b"\xaasignatures\x90"];
    assert_eq!(
        Signed::read(&with_trailer(&bytes, &twice.concat())).unwrap_err().to_string(),
        "the policy bundle is malformed: its trailer has `sha256` twice"
    );
}

#[test]
fn a_content_too_short_for_its_preamble_is_no_envelope() {
    for len in 0..64_u64 {
        let mut bytes = seal(Kind::Bundle, 7);
        bytes[24..32].copy_from_slice(&len.to_le_bytes());
        let file = with_trailer(&bytes, &trailer(&bytes, &[0x90]));
        assert!(Signed::read(&file).is_err(), "{len}");
    }
}

#[test]
fn versions_rise_and_chains_hold() {
    let digest = |number: u8| Digest([number; 32]);
    let bundle = |version, number| Accepted { version, digest: digest(number) };
    let check = |demands: &Demands, found: Accepted, parent: Option<u8>, expected: Result<(), &str>| {
        let result = demands.check_version(found, parent.map(digest));
        assert_eq!(
            result.map_err(|error| format!("{}: {error}", error.code())),
            expected.map_err(str::to_owned)
        );
    };
    let nothing = Demands::default();
    check(&nothing, bundle(1, 1), None, Ok(()));

    let newest = Demands { newest: Some(bundle(5, 5)), ..Demands::default() };
    check(&newest, bundle(5, 5), None, Ok(()));
    check(&newest, bundle(6, 4), None, Ok(()));
    check(
        &newest,
        bundle(4, 4),
        None,
        Err("older_version: the policy bundle has version 4 (sha256:040404040404), which is older than \
             version 5 (sha256:050505050505), which was accepted before"),
    );
    check(
        &newest,
        bundle(5, 6),
        None,
        Err("version_conflict: the policy bundle has version 5 but is sha256:060606060606, \
             accepted as version 5 was sha256:050505050505"),
    );

    let minimum = Demands { min_version: Some(7), ..newest.clone() };
    check(&minimum, bundle(7, 7), None, Ok(()));
    check(
        &minimum,
        bundle(5, 5),
        None,
        Err("below_min_version: the policy bundle has version 5, expected 7 or higher"),
    );

    let chain = Demands { parent: ExpectedParent::Newest, ..newest.clone() };
    check(&chain, bundle(5, 5), Some(4), Ok(()));
    check(&chain, bundle(6, 6), Some(5), Ok(()));
    let five = "05".repeat(32);
    check(
        &chain,
        bundle(6, 6),
        None,
        Err(&format!(
            "wrong_parent: the policy bundle version 6 replaces none, expected it to replace sha256:{five}"
        )),
    );
    check(
        &chain,
        bundle(7, 7),
        Some(6),
        Err(&format!(
            "wrong_parent: the policy bundle version 7 replaces sha256:{}, expected it to replace sha256:{five}",
            "06".repeat(32)
        )),
    );
    check(&Demands { newest: None, ..chain.clone() }, bundle(9, 9), Some(8), Ok(()));
    let exactly = Demands { parent: ExpectedParent::Exactly(digest(4)), ..newest };
    check(&exactly, bundle(5, 5), Some(4), Ok(()));
    assert!(exactly.check_version(bundle(5, 5), Some(digest(3))).is_err());
}

#[test]
fn pins_and_kinds_are_looked_at_before_anything_else() {
    let bytes = seal(Kind::Bundle, 7);
    let found = Signed::read(&bytes).unwrap().digest();
    let pinned = |digest| Demands { pin: Some(digest), ..Demands::default() };
    assert_eq!(pinned(found).check_bytes(&bytes, Kind::Bundle), Ok(()));
    let other = Digest([9; 32]);
    let error = pinned(other).check_bytes(&bytes, Kind::Bundle).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string()),
        ("wrong_pin", format!("the policy bundle is sha256:{found}, pinned is sha256:{other}"))
    );
    // The pin is the bundle's; a package is pinned by the bundle.
    assert_eq!(pinned(other).check_bytes(&seal(Kind::Package, 1), Kind::Package), Ok(()));
    // So is a unit list, which needs no signature of its own for that reason.
    assert_eq!(demand(&[1]).check_bytes(&seal(Kind::UnitList, 1), Kind::UnitList), Ok(()));
    let bundles_alone = Demands { sign_packages: false, ..demand(&[1]) };
    assert_eq!(bundles_alone.check_bytes(&seal(Kind::Package, 1), Kind::Package), Ok(()));
    assert_eq!(bundles_alone.check_bytes(&bytes, Kind::Bundle).unwrap_err().code(), "unsigned");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_trailer_panics_or_is_trusted(bytes in proptest::collection::vec(any::<u8>(), 0..300), framed in any::<bool>()) {
        let sealed = seal(Kind::Bundle, 7);
        let tail = if framed { trailer(&sealed, &bytes) } else { bytes };
        let file = with_trailer(&sealed, &tail);
        prop_assert_ne!(code(&file, Kind::Bundle, &[1]), "accepted");
    }

    #[test]
    fn no_spliced_file_is_trusted(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
        numbers in proptest::sample::subsequence(vec![1_u8, 2, 3, 4], 1..4),
    ) {
        let good = sign(&seal(Kind::Bundle, 7), &numbers);
        let mut bad = good.clone();
        for (at, from, value) in edits {
            let (at, from) = (at.index(bad.len()), from.index(bad.len()));
            match value % 4 {
                0 => bad[at] = value,
                1 => bad.insert(at, value),
                2 => bad.swap(at, from),
                _ => {
                    let tail = bad.split_off(at);
                    bad.extend_from_slice(&tail[tail.len().min(usize::from(value))..]);
                }
            }
            if bad.is_empty() {
                bad.push(0);
            }
        }
        // Whatever survives must have lost or spoilt a signature; the content is the signed one.
        if code(&bad, Kind::Bundle, &numbers) == "accepted" {
            prop_assert_eq!(&bad[..content_len(&bad)], &good[..content_len(&good)]);
        }
    }
}
