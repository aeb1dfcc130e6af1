//! The streams of a container.

use bot_bottle_engine::{EngineError, RefusalKind, attach};
use bot_bottle_testkit::random_hex;

use crate::fixture::with_engines;

#[test]
fn nothing_is_lost_by_a_container_that_is_attached_to_before_it_starts() {
    with_engines(|fixture| {
        // It ends at once, so that whatever came before the attachment would be missing.
        for number in 0..5 {
            let name = format!("quick-{number}");
            let spec = fixture.script(&name, "echo out; echo err >&2; exit 5");
            let outcome = fixture.run(&spec, b"");
            assert_eq!((outcome.code, outcome.text().as_str()), (5, "out\n"));
            assert_eq!(outcome.stderr, b"err\n");
        }
    });
}

#[test]
fn bytes_travel_both_ways_unchanged_until_the_input_ends() {
    with_engines(|fixture| {
        let spec = fixture.script("cat", "cat; echo ended >&2");
        // Every byte value, and more than all buffers on the way hold.
        let mut input: Vec<u8> = (0..=255).cycle().take(2_000_000).collect();
        input.extend_from_slice(random_hex(1000).as_bytes());
        let outcome = fixture.run(&spec, &input);
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout == input, "{} bytes of {}", outcome.stdout.len(), input.len());
        assert_eq!(outcome.stderr, b"ended\n", "the end of the input reached it");
    });
}

#[test]
fn a_container_that_does_not_exist_is_not_attached_to() {
    with_engines(|fixture| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let attach = |name: String| {
            let address = fixture.engine.address().clone();
            runtime.block_on(async move { attach(&address, &name, |_| {}).await })
        };
        let error = attach(fixture.name("missing")).expect_err("there is none");
        assert_eq!(error.refusal(), Some(RefusalKind::NotFound), "{error}");
        let error = attach("../x".to_owned()).expect_err("no name");
        assert!(matches!(error, EngineError::InvalidName(_)));
        let spec = fixture.script("there", "true");
        fixture.engine.create_container(&spec).expect("created");
        attach(spec.name).expect("this one is there");
    });
}
