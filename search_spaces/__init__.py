"""What may vary: subnets, the spaces they are drawn from, and the designs of those spaces."""

from search_spaces.constraints import Constraint, parse_constraints
from search_spaces.design import Design, DesignSpace
from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from search_spaces.subnet_space import SubnetSpace

__all__ = [
    "Constraint",
    "Design",
    "DesignSpace",
    "InputError",
    "Subnet",
    "SubnetSpace",
    "parse_constraints",
]
