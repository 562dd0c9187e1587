//! The split over regions, as rules.

use demo4_lb::balance::{Site, TOTAL_WEIGHT, weights};
use proptest::prelude::*;

fn site() -> impl Strategy<Value = Site> {
    (0.0..100.0f64, 1.0..1000.0f64).prop_map(|(preference, capacity)| Site { preference, capacity })
}

#[test]
fn below_capacity_preferences_decide() {
    let site = |preference| Site { preference, capacity: 1000.0 };
    assert_eq!(weights(300.0, &[site(70.0), site(20.0), site(10.0)]), [700, 200, 100]);
}

#[test]
fn overflow_of_a_full_region_goes_to_the_others_by_preference() {
    let full = Site { preference: 80.0, capacity: 100.0 };
    let (one, two) = (Site { preference: 15.0, capacity: 900.0 }, Site { preference: 5.0, capacity: 900.0 });
    assert_eq!(weights(500.0, &[full, one, two]), [200, 600, 200]);
}

#[test]
fn overload_is_shared_in_proportion_to_capacity() {
    let (small, large) =
        (Site { preference: 90.0, capacity: 100.0 }, Site { preference: 10.0, capacity: 300.0 });
    assert_eq!(weights(4000.0, &[small, large]), [250, 750]);
}

#[test]
fn without_demand_preferences_decide() {
    let site = |preference| Site { preference, capacity: 100.0 };
    assert_eq!(weights(0.0, &[site(80.0), site(15.0), site(5.0)]), [800, 150, 50]);
    assert_eq!(
        weights(f64::NAN, &[site(75.0), site(25.0)]),
        [750, 250],
        "a demand that is no number is none"
    );
}

#[test]
fn without_preferences_and_demand_all_regions_get_equal_weights() {
    let unpreferred = Site { preference: 0.0, capacity: 10.0 };
    for demand in [0.0, 5.0] {
        assert_eq!(weights(demand, &[unpreferred.clone(), unpreferred.clone()]), [500, 500]);
    }
    let without_capacity = Site { preference: 0.0, capacity: 0.0 };
    assert_eq!(weights(5.0, &[without_capacity.clone(), without_capacity]), [500, 500]);
    assert!(weights(5.0, &[]).is_empty());
}

proptest! {
    #[test]
    fn weights_add_up_and_no_region_exceeds_its_capacity_below_total_capacity(
        sites in prop::collection::vec(site(), 1..8),
        load in prop_oneof![Just(0.0), 0.01..0.99f64],
    ) {
        let capacity: f64 = sites.iter().map(|site| site.capacity).sum();
        let demand = load * capacity;
        let parts = weights(demand, &sites);
        prop_assert_eq!(parts.iter().sum::<u32>(), TOTAL_WEIGHT);
        // Nobody preferred means that a place is found all the same.
        for (part, site) in parts.iter().zip(&sites) {
            let share = demand * f64::from(*part) / f64::from(TOTAL_WEIGHT);
            let rounding = demand / f64::from(TOTAL_WEIGHT);
            prop_assert!(share <= site.capacity + rounding + 1e-6, "{} over {}", share, site.capacity);
        }
    }

    #[test]
    fn a_larger_capacity_never_means_a_smaller_share(
        mut sites in prop::collection::vec(site(), 2..6),
        demand in 1.0..5000.0f64,
        extra_capacity in 1.0..500.0f64,
    ) {
        let before = weights(demand, &sites)[0];
        sites[0].capacity += extra_capacity;
        let after = weights(demand, &sites)[0];
        prop_assert!(after + 1 >= before, "{} parts, then {}", before, after);
    }
}
