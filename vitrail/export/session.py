"""What an exported graph is once a runtime has opened it."""

from collections.abc import Callable

import numpy as np

Session = Callable[[np.ndarray], dict[str, np.ndarray]]  # one array in, arrays by the names of the outputs out
